"""``mit-semseg import``: a model of another program becomes a folder as train.py writes it."""
