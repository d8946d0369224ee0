"""Processes, signals, files and the machine that the commands run on. Nothing here knows of segmentation."""
