"""Bilinear resizing of score maps to the size of the image, block by block, to bound the memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime.threads import map_single_threaded
from .tiles import ScoreMap, Span

_CPU_VALUES = 80_000  # in a block, 320 kB: two or three blocks fit into a core's second-level cache
_CPU_COLUMNS = 128
_MOST_CPU_ROWS = 64
_GPU_VALUES = 1 << 26  # in a block, 256 MB: enough to keep a GPU busy
_GPU_COLUMNS = 512
_PREFETCH = 2  # bands of rows that are computed ahead for each thread


class Axis(NamedTuple):
    """Bilinear resizing along one axis.

    Output i is ``(1 - fraction[i]) * x[lower[i]] + fraction[i] * x[upper[i]]``.
    """

    lower: Tensor  # int64, on the CPU
    upper: Tensor
    fraction: Tensor  # float32

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The range of inputs that the outputs ``start`` to ``stop`` - 1 read."""
        return int(self.lower[start]), int(self.upper[stop - 1]) + 1

    def blend(self, x: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Outputs ``start`` to ``stop`` - 1 along dimension 0. ``x`` holds the inputs from ``first`` on."""
        part = slice(start, stop)
        lower, upper = (index[part].to(x.device) - first for index in (self.lower, self.upper))
        fraction = self.fraction[part].to(x.device)
        return torch.lerp(x[lower], x[upper], fraction.view(-1, *[1] * (x.dim() - 1)))

    def matrix(self, start: int, stop: int) -> Tensor:
        """The same as a matrix (outputs, inputs of their `span`), for axes other than the first."""
        first, last = self.span(start, stop)
        rows, part = torch.arange(stop - start), slice(start, stop)
        matrix = torch.zeros(stop - start, last - first)
        matrix[rows, self.lower[part] - first] += 1 - self.fraction[part]
        matrix[rows, self.upper[part] - first] += self.fraction[part]
        return matrix


def axis(source: int, target: int, align_corners: bool = False) -> Axis:
    """The resizing of ``source`` values to ``target`` values."""
    places = torch.arange(target, dtype=torch.float64)
    places = (
        places * (source - 1) / max(1, target - 1)
        if align_corners
        else (places + 0.5) * source / target - 0.5
    )
    places = places.clamp(0, source - 1)
    lower = places.floor().long()
    return Axis(lower, (lower + 1).clamp(max=source - 1), (places - lower).float())


class Block(NamedTuple):
    """Scores (rows, columns, num_class) float32 of a rectangle of the image."""

    rows: slice
    columns: slice
    scores: Tensor


def for_each_block(
    maps: Sequence[ScoreMap],
    size: tuple[int, int],
    use: Callable[[Block], None],
    *,
    softmax: bool,
    shares: bool = False,
    align_corners: bool = False,
    within: Span | None = None,
) -> None:
    """Resize the scores of all ``maps`` to ``size``, sum them, and call ``use`` on each block of the sum.

    Args:
        size: (height, width).
        use: called once for each block, in any order; on the CPU, from several threads.
        softmax: turn the resized scores into probabilities before they are summed.
        shares: divide the sums by their sum over the classes, so that they sum to the number of maps. It is
            for scores of at least 0, of which softmax would not make probabilities.
        align_corners: align the centres of the corner pixels, not the areas of pixels.
        within: the columns of the image to use; None for all. They begin at a multiple of `column_step`, so
            that blocks, and so the rounding, are those of the whole image.
    """
    height, width = size
    device, num_class = maps[0].device, maps[0].num_class
    row_step, step = _shape(device, num_class, height, width)
    vertical = [axis(source.height, height, align_corners) for source in maps]
    first, last = within or (0, width)
    columns = [slice(left, min(left + step, width)) for left in range(first, last, step)]
    inputs, matrices = [], []
    for source in maps:
        along = axis(source.width, width, align_corners)
        read = [along.span(part.start, part.stop) for part in columns]
        inputs.append([slice(start - source.left, stop - source.left) for start, stop in read])
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
            if shares:
                total *= len(maps) / total.sum(-1, keepdim=True)
            use(Block(rows, part, total))

    def bands_of_rows() -> Iterator[tuple[slice, list[tuple[int, Tensor]]]]:
        for top in range(0, height, row_step):
            rows = slice(top, min(top + row_step, height))
            read = [along.span(rows.start, rows.stop) for along in vertical]
            yield rows, [(span[0], source.rows(*span)) for source, span in zip(maps, read, strict=True)]

    threads = torch.get_num_threads() if device.type == "cpu" else 1
    for _ in map_single_threaded(score, bands_of_rows(), threads=threads, depth=_PREFETCH):
        pass


def column_step(device: torch.device) -> int:
    """The columns of a block, in an image that has more."""
    return _CPU_COLUMNS if device.type == "cpu" else _GPU_COLUMNS


def _shape(device: torch.device, num_class: int, height: int, width: int) -> tuple[int, int]:
    """The numbers of rows and columns in a block."""
    columns = min(column_step(device), width)
    if device.type == "cpu":
        return min(max(1, _CPU_VALUES // (columns * num_class)), _MOST_CPU_ROWS, height), columns
    return min(max(1, _GPU_VALUES // (columns * num_class)), height), columns
