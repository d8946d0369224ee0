"""Predictions as the files of labelling tools, which import them as labels to correct."""
