"""The comparison of an exported file with PyTorch, at sizes that the export has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from ..data.bands import RGB, Bands
from .graph import LABELS, LOGITS, SCORES, ExportGraph
from .opened import Image, OpenedModel

_TIE = 1e-4  # difference of the two highest scores
_TIE_SHARE = 1e-5  # of the largest score, whose rounding is that large
_LARGEST_DIFFERENCE = 1e-3  # of scores, as a share of the largest one
_CELL = 8  # pixels of one colour, about

Shape: TypeAlias = tuple[int, int, int]
"""(N, H, W) of images."""


@dataclass(frozen=True)
class Row:
    """The comparison at one size.

    Attributes:
        shape: of the images.
        pixels: their number.
        ties: pixels of different labels whose two highest scores are practically equal.
        wrong: other pixels of different labels.
        difference: the largest difference of a score, as a share of the largest score.
    """

    shape: Shape
    pixels: int
    ties: int
    wrong: int
    difference: float

    @property
    def agrees(self) -> bool:
        return self.wrong == 0 and self.difference <= _LARGEST_DIFFERENCE


def shapes_for(multiple: int) -> list[Shape]:
    """Shapes to compare at: one pixel, the multiple, odd, even, narrow and larger ones."""
    return [
        (1, 1, 1),
        (1, multiple, multiple),
        (3, multiple, 2 * multiple + 1),
        (1, 33, 65),
        (3, 64, 96),
        (1, 97, 40),
        (3, 131, 75),
        (1, 160, 224),
        (1, 225, 319),
        (1, 240, 328),
    ]


def compare(graph: ExportGraph, model: OpenedModel, shapes: Sequence[Shape]) -> list[Row]:
    """Compare ``model`` with ``graph``, which PyTorch runs, for images of each shape."""
    generator = np.random.Generator(np.random.Philox(0))
    return [_row(graph, model, _images(shape, generator, graph.bands)) for shape in shapes]


def as_table(rows: Sequence[Row]) -> str:
    """The rows as lines of text."""
    lines = ["batch  height x width  different labels   ties  largest difference of a score"]
    for row in rows:
        count, height, width = row.shape
        lines.append(
            f"{count:5}  {height:6} x {width:<5}  {row.wrong:7} of {row.pixels:<7}  {row.ties:4}  "
            f"{row.difference:.1e}{'' if row.agrees else '  <- too large'}"
        )
    return "\n".join(lines) + "\n"


@torch.no_grad()
def _row(graph: ExportGraph, model: OpenedModel, image: Image) -> Row:
    wanted = dict(zip(graph.outputs, graph(torch.from_numpy(image)), strict=True))
    outputs = dict(zip(graph.outputs, map(torch.from_numpy, model.run(graph.outputs, image)), strict=True))
    count, _, height, width = image.shape
    if any(outputs[name].shape != wanted[name].shape for name in wanted):
        pixels = wanted[LABELS].numel()
        return Row((count, height, width), pixels, 0, pixels, float("inf"))
    logits = wanted[LOGITS]
    largest = float(logits.abs().max())
    difference = float((outputs[LOGITS] - logits).abs().max()) / max(largest, 1e-30)
    if SCORES in wanted:
        difference = max(difference, float((outputs[SCORES] - wanted[SCORES]).abs().max()))
    different = outputs[LABELS] != wanted[LABELS]
    ties = 0
    if different.any():
        near = graph.margin(graph.full(logits, image.shape[-2:])) <= max(_TIE, _TIE_SHARE * largest)
        ties = int((different & near).sum())
    return Row((count, height, width), different.numel(), ties, int(different.sum()) - ties, difference)


def _images(shape: Shape, generator: np.random.Generator, bands: Bands | None) -> Image:
    """Noisy blocks of random colours, (N, C, H, W): uniform noise would give most networks one class."""
    count, height, width = shape
    channels = RGB if bands is None else bands.channels
    small = generator.integers(0, 256, (count, channels, height // _CELL + 1, width // _CELL + 1))
    blocks = small.repeat(_CELL, 2).repeat(_CELL, 3)[:, :, :height, :width]
    noise = generator.integers(-20, 21, (count, channels, height, width))
    colors = np.clip(blocks + noise, 0, 255)
    if bands is None:
        return colors.astype(np.uint8)
    low, high = (np.array(limits).reshape(-1, 1, 1) for limits in (bands.low, bands.high))
    values = (low + colors / 255 * (high - low)).astype(np.float32)
    values[..., : height // 2, 0] = np.nan  # no data
    return values
