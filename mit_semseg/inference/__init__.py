"""Inference on images: the network at each scale, tiles of large images, and the Python interface."""

from .exported import ExportedNetwork
from .network import AMP, ScoringNetwork
from .predict import Settings, predict_confident_labels, predict_labels, predict_probabilities

__all__ = [
    "AMP",
    "ExportedNetwork",
    "ScoringNetwork",
    "Settings",
    "predict_confident_labels",
    "predict_labels",
    "predict_probabilities",
]
