"""Scores at the size of the image, a block of few rows and columns at a time.

A block is small enough to stay in cache from the first operation to the last, and the classes are its last
dimension, so that softmax and argmax run along contiguous memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .exponentials import LOWEST, Segment, exponentials, segments
from .resample import axis
from .threads import for_each
from .tiles import ScoreMap

_CPU_VALUES = 600_000  # of a block, 2.4 MB: small enough for caches, large enough for the calls not to count
_CPU_COLUMNS = 128
_GPU_VALUES = 1 << 26  # 256 MB: enough for a GPU to be busy
_GPU_COLUMNS = 512
_MOST_CPU_ROWS = 64
_LEAST_ENLARGED = 4  # rows of the result for a row of a map, from which products are the faster way


class Block(NamedTuple):
    """Scores of a rectangle of the image, (rows, columns, num_class) float32."""

    rows: slice
    columns: slice
    scores: Tensor


def for_each_block(
    maps: Sequence[ScoreMap], size: tuple[int, int], use: Callable[[Block], None], *, softmax: bool
) -> None:
    """Call ``use`` on the sum over ``maps`` of their scores, resized to ``size``, block by block.

    Args:
        size: (height, width).
        use: called once for each block, in no certain order, on the CPU from several threads.
        softmax: resized scores become probabilities before they are added up.
    """
    height, width = size
    device, num_class = maps[0].device, maps[0].num_class
    row_step, column_step = _shape(device, num_class, height, width)
    vertical = [axis(source.height, height) for source in maps]
    columns = [slice(left, min(left + column_step, width)) for left in range(0, width, column_step)]
    inputs, matrices = [], []
    for source in maps:
        along = axis(source.width, width)
        inputs.append([slice(*along.span(part.start, part.stop)) for part in columns])
        matrices.append([along.matrix(part.start, part.stop).to(device) for part in columns])
    by_products = [
        softmax and device.type == "cpu" and height >= _LEAST_ENLARGED * source.height for source in maps
    ]

    def score(rows: slice, bands: list[_Band], k: int) -> None:
        total: Tensor | None = None
        for i, band in enumerate(bands):
            wide = torch.matmul(matrices[i][k], band.scores[:, inputs[i][k]])
            if band.runs:
                scores = wide.new_empty(rows.stop - rows.start, *wide.shape[1:])
                exponentials(wide, band.first, band.runs, scores)
                weight = scores.sum(-1, keepdim=True).reciprocal_()
                total = scores.mul_(weight) if total is None else total.addcmul_(scores, weight)
                continue
            scores = vertical[i].blend(wide, band.first, rows.start, rows.stop)
            if softmax:
                scores = torch.softmax(scores, -1)
            total = scores if total is None else total.add_(scores)
        assert total is not None
        use(Block(rows, columns[k], total))

    def bands(rows: slice) -> Iterator[_Band]:
        for source, along, products in zip(maps, vertical, by_products, strict=True):
            first, last = along.span(rows.start, rows.stop)
            scores = source.rows(first, last)
            runs: list[Segment] = []
            if products:
                below_highest = scores - scores.amax(-1, keepdim=True)  # what softmax does not notice
                if below_highest.amin() >= LOWEST:
                    scores, runs = below_highest, segments(along, rows.start, rows.stop)
            yield _Band(first, scores, runs)

    def pieces() -> Iterator[tuple[slice, list[_Band], int]]:
        for top in range(0, height, row_step):
            rows = slice(top, min(top + row_step, height))
            read = list(bands(rows))
            for k in range(len(columns)):
                yield rows, read, k

    for_each(score, pieces(), threads=torch.get_num_threads() if device.type == "cpu" else 1)


class _Band(NamedTuple):
    """The rows of a map that some rows of the result are made of."""

    first: int
    scores: Tensor  # (rows, width, num_class), from row ``first`` on
    runs: list[Segment]  # empty where each value takes an ``exp`` of its own, or none


def _shape(device: torch.device, num_class: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a block."""
    if device.type == "cpu":
        columns = min(_CPU_COLUMNS, width)
        return min(max(1, _CPU_VALUES // (columns * num_class)), _MOST_CPU_ROWS, height), columns
    columns = min(_GPU_COLUMNS, width)
    return min(max(1, _GPU_VALUES // (columns * num_class)), height), columns
