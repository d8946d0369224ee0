"""The names that existing code imports from here; holds no code."""

from numpy import unique

from .data.files import find_recursive
from .errors import UserError as NotSupportedCliException
from .inference.pictures import colorEncode
from .metrics.confusion import AverageMeter, accuracy, intersectionAndUnion
from .runtime.devices import parse_devices
from .runtime.log import setup_logger

__all__ = [
    "AverageMeter",
    "NotSupportedCliException",
    "accuracy",
    "colorEncode",
    "find_recursive",
    "intersectionAndUnion",
    "parse_devices",
    "setup_logger",
    "unique",
]
