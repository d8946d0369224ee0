"""Scores at the size of the image, a block of few rows and columns at a time.

A block is small enough to stay in cache from the first operation to the last, and the classes are its last
dimension, so that softmax and argmax run along contiguous memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .resample import axis
from .threads import each_alone
from .tiles import ScoreMap

_CPU_VALUES = 80_000  # of a block, 320 kB: two or three of them fit into a core's second-level cache
_CPU_COLUMNS = 128
_GPU_VALUES = 1 << 26  # 256 MB: enough for a GPU to be busy
_GPU_COLUMNS = 512
_MOST_CPU_ROWS = 64
_AHEAD = 2  # bands of rows that wait for each thread


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

    def score(rows: slice, bands: list[tuple[int, Tensor]]) -> None:
        blended = [
            along.blend(band, first, rows.start, rows.stop)
            for along, (first, band) in zip(vertical, bands, strict=True)
        ]
        for k, part in enumerate(columns):
            total: Tensor | None = None
            for i, band in enumerate(blended):
                scores = torch.matmul(matrices[i][k], band[:, inputs[i][k]])
                if softmax:
                    scores = torch.softmax(scores, -1)
                total = scores if total is None else total.add_(scores)
            assert total is not None
            use(Block(rows, part, total))

    def bands_of_rows() -> Iterator[tuple[slice, list[tuple[int, Tensor]]]]:
        for top in range(0, height, row_step):
            rows = slice(top, min(top + row_step, height))
            read = [along.span(rows.start, rows.stop) for along in vertical]
            yield rows, [(span[0], source.rows(*span)) for source, span in zip(maps, read, strict=True)]

    threads = torch.get_num_threads() if device.type == "cpu" else 1
    for _ in each_alone(score, bands_of_rows(), threads=threads, ahead=_AHEAD):
        pass


def _shape(device: torch.device, num_class: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a block."""
    if device.type == "cpu":
        columns = min(_CPU_COLUMNS, width)
        return min(max(1, _CPU_VALUES // (columns * num_class)), _MOST_CPU_ROWS, height), columns
    columns = min(_GPU_COLUMNS, width)
    return min(max(1, _GPU_VALUES // (columns * num_class)), height), columns
