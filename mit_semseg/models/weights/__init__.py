"""Files of weights: downloading, packages that hold some, reading and writing checkpoints."""
