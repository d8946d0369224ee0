"""Types of command-line arguments for argparse, whose errors say what is allowed."""

import argparse
import math
from collections.abc import Callable

LARGEST_COUNT = 65536
"""Of processes, or of pixels along a side."""


def whole(least: int, most: int | None = None, what: str = "a whole number") -> Callable[[str], int]:
    """A whole number in a range, both ends included.

    >>> whole(1)("12")
    12
    """

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} {_limits(least, most)}")
        return value

    return read


def number(least: float, most: float | None = None, what: str = "a number") -> Callable[[str], float]:
    """A finite number in a range, both ends included.

    >>> number(0, 100)("99.5")
    99.5
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= (math.inf if most is None else most)):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} {_limits(least, most)}")
        return value

    return read


def share(text: str) -> float:
    """A share from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1, such as 0.2")
    return value


def _limits(least: float, most: float | None) -> str:
    return f"of at least {least:g}" if most is None else f"from {least:g} to {most:g}"
