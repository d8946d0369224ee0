"""Trackers of runs: TensorBoard, Weights & Biases, MLflow. None of them can stop a training."""

from .identity import read_identity, write_identity
from .results import report_results
from .tracker import Ending, TrackedRun
from .trackers import Trackers, open_trackers, package_of

__all__ = [
    "Ending",
    "TrackedRun",
    "Trackers",
    "open_trackers",
    "package_of",
    "read_identity",
    "report_results",
    "write_identity",
]
