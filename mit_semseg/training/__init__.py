"""Training: the loop, the state of a run, its checkpoints and its logs."""
