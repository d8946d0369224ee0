"""The names that existing code imports from here; holds no code."""

from numpy import unique

from .data.files import find_recursive
from .distributed import parse_devices
from .log import setup_logger
from .metrics import AverageMeter, accuracy, intersectionAndUnion
from .visualize import colorEncode

__all__ = [
    "AverageMeter",
    "accuracy",
    "colorEncode",
    "find_recursive",
    "intersectionAndUnion",
    "parse_devices",
    "setup_logger",
    "unique",
]
