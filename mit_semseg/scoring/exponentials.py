"""Exponentials of rows between two known ones, by products instead of one ``exp`` a value.

Between two source rows the scores of a pixel run along a straight line, so that their exponentials are a
geometric progression: every row is the one before it times the same factor. A product costs a tenth of an
``exp``, and the factor serves some ten rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .resample import Axis

LOWEST = -80.0
"""Scores below it have exponentials that float32 does not hold at full precision."""


class Segment(NamedTuple):
    """Outputs ``start`` to ``stop`` - 1 lie between two inputs, at ``first``, ``first + step``, ..."""

    start: int
    stop: int
    lower: int
    upper: int
    first: float
    step: float


def segments(along: Axis, start: int, stop: int) -> list[Segment]:
    """The outputs ``start`` to ``stop`` - 1 of an axis, in runs that blend the same two inputs."""
    lower, upper, fraction = (values[start:stop].tolist() for values in along)
    found: list[Segment] = []
    begin = 0
    for k in range(1, stop - start + 1):
        # Before the first source row all outputs are equal to it: a run of its own, whose fraction is 0.
        if k < stop - start and lower[k] == lower[begin] and (fraction[k] > 0) == (fraction[begin] > 0):
            continue
        step = (fraction[k - 1] - fraction[begin]) / max(k - 1 - begin, 1)
        found.append(Segment(start + begin, start + k, lower[begin], upper[begin], fraction[begin], step))
        begin = k
    return found


def exponentials(rows: Tensor, first: int, runs: list[Segment], out: Tensor) -> Tensor:
    """``exp`` of the outputs of ``runs``, which follow on each other.

    Args:
        rows: (inputs, columns, num_class), of which the first is input ``first``; from `LOWEST` to 0.
        out: (outputs, columns, num_class), to be written into.
    """
    top = runs[0].start
    for run in runs:
        part = out[run.start - top : run.stop - top]
        lower, upper = rows[run.lower - first], rows[run.upper - first]
        difference = upper - lower
        torch.add(lower, difference, alpha=run.first, out=part[0]).exp_()
        if len(part) > 1:
            _progress(part, difference.mul_(run.step).exp_())
    return out


def _progress(rows: Tensor, factor: Tensor) -> None:
    """Make each row the one before it times ``factor``, in steps that double, which keeps rounding small."""
    done = 1
    while done < len(rows):
        count = min(done, len(rows) - done)
        torch.mul(rows[:count], factor, out=rows[done : done + count])
        done += count
        if done < len(rows):
            factor.square_()
