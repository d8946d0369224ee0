"""`mit-semseg runs`, `card` and `push`: what is in the folders of runs, listed, compared and published."""
