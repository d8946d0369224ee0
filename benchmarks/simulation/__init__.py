"""A model of a training step on many GPUs: published hardware, formulas, and the check on this machine."""
