"""Scoring one image: the network folded for inference, tiles, and upsampling in blocks that stay in cache."""

from .network import AMP, ScoringNetwork
from .score import Settings, score_confident_labels, score_labels, score_probabilities

__all__ = [
    "AMP",
    "ScoringNetwork",
    "Settings",
    "score_confident_labels",
    "score_labels",
    "score_probabilities",
]
