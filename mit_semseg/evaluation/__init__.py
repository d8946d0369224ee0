"""The work of `eval_multipro.py`: scores of a trained model on a list, from any number of processes."""
