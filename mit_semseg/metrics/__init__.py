"""Scores from integer counts, which sum exactly over images and processes, and confidence intervals."""

from .boundary import BoundaryCounts
from .calibration import Calibration
from .confusion import METRICS, ConfusionMatrix

__all__ = ["METRICS", "BoundaryCounts", "Calibration", "ConfusionMatrix"]
