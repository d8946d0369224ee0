"""Sizes of scaled and padded images, and resizing of images and labels."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def round_up(length: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``length``.

    Raises: ValueError if ``multiple`` is below 1.

    >>> round_up(300, 8), round_up(304, 8)
    (304, 304)
    """
    if multiple < 1:
        raise ValueError(f"multiple is {multiple}; it must be 1 or more.")
    return -(-length // multiple) * multiple


def fit_size(width: int, height: int, short_edge: float, max_long_edge: float) -> tuple[int, int]:
    """Size of an image scaled to a short edge, unless its long edge would pass a limit.

    Args:
        short_edge: wanted length of the shorter side, in pixels.
        max_long_edge: upper limit for the longer side, in pixels. It wins over ``short_edge``.

    Returns: (width, height), each rounded down, as the published models were trained; at least 1 pixel.
    Raises: ValueError if a side is below 1 pixel.

    >>> fit_size(683, 512, short_edge=300, max_long_edge=1000)
    (400, 300)
    """
    if min(width, height, short_edge, max_long_edge) < 1:
        raise ValueError(
            f"Sizes must be 1 pixel or more: width {width}, height {height}, "
            f"short_edge {short_edge}, max_long_edge {max_long_edge}."
        )
    # Keep the order of operations: it decides which products fall just below a whole number.
    scale = min(short_edge / min(width, height), max_long_edge / max(width, height))
    return max(1, int(width * scale)), max(1, int(height * scale))


class Scales(NamedTuple):
    """The sizes at which images are scored: the arguments of `scored_sizes` besides the size of an image."""

    short_edges: tuple[int, ...]
    max_long_edge: int
    multiple: int
    window: int = 0

    @classmethod
    def of(cls, options: Any) -> "Scales":
        """Those of anything that has ``imgSizes``, ``imgMaxSize``, ``padding_constant`` and ``window``."""
        return cls(tuple(options.imgSizes), options.imgMaxSize, options.padding_constant, options.window)


def scored_sizes(
    width: int, height: int, short_edges: Sequence[int], max_long_edge: int, multiple: int, window: int = 0
) -> list[tuple[int, int]]:
    """The (width, height) of an image at each scale at which it is scored, in pixels.

    Args:
        multiple: sides are rounded up to multiples of it.
        window: side of the windows of scenes that the model was trained on, in pixels: all images are scaled
            as these windows are. 0: each image is scaled to the short edges.

    >>> scored_sizes(683, 512, [300], 1000, 8), scored_sizes(2000, 1000, [256], 256, 8, window=512)
    ([(400, 304)], [(1000, 504)])
    """
    sizes = []
    for short_edge in short_edges:
        if window:
            scale = fit_size(window, window, short_edge, max_long_edge)[0] / window
            fitted = max(1, round(width * scale)), max(1, round(height * scale))
        else:
            fitted = fit_size(width, height, short_edge, max_long_edge)
        sizes.append((round_up(fitted[0], multiple), round_up(fitted[1], multiple)))
    return sizes


def resize(pixels: np.ndarray, width: int, height: int, flip: bool = False) -> Tensor:
    """An image (H, W, C), uint8 RGB or float32, at another size, as (C, height, width) in channels-last
    memory.

    The resize is bilinear and antialiased. It gives Pillow's values in a fraction of the time, except that up
    to a few in a hundred of 8 bits differ by 1.

    Args:
        flip: mirror the image first.
    """
    # A batch from the start, because PyTorch's fast channels-last kernel also checks the stride of N.
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    if flip:
        batch = batch.flip(3)
    if batch.shape[2:] != (height, width):
        batch = functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)
    return batch[0]


def pick_nearest(
    values: np.ndarray, width: int, height: int, rate: int = 1, flip: bool = False
) -> np.ndarray:
    """The values (H, W) at another size, each taken from the nearest pixel, as Pillow picks it.

    Args:
        rate: keep only the middle pixel of each cell of ``rate`` x ``rate`` pixels. Cells at the right and
            the bottom may be smaller, and are dropped if they have no middle pixel.
        flip: mirror the values first.
    """
    rows = _nearest(values.shape[0], height)[rate // 2 :: rate]
    columns = _nearest(values.shape[1], width)[rate // 2 :: rate]
    if flip:
        columns = values.shape[1] - 1 - columns
    return values[rows[:, None], columns]


@lru_cache(maxsize=512)
def _nearest(length: int, new_length: int) -> np.ndarray:
    """For each new position, the old position that contains its centre."""
    # A cumulative sum, as in Pillow: its rounding decides which of two neighbours contains a centre.
    steps = np.full(new_length, length / new_length)
    steps[0] /= 2
    return np.minimum(np.cumsum(steps).astype(np.intp), length - 1)
