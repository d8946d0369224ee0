"""Images and labels in another size."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def resize(pixels: np.ndarray, width: int, height: int, flip: bool = False) -> Tensor:
    """An RGB image (H, W, 3) uint8 in another size, as (3, height, width) in channels-last memory.

    Bilinear and antialiased: Pillow's values, save that up to a few in a hundred differ by 1, and in a
    fraction of the time.

    Args:
        flip: mirror the image first.
    """
    # As a batch from the start: PyTorch's faster way for channels-last asks for that in the stride of N too.
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    if flip:
        batch = batch.flip(3)
    if batch.shape[2:] != (height, width):
        batch = functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)
    return batch[0]


def pick_nearest(
    values: np.ndarray, width: int, height: int, rate: int = 1, flip: bool = False
) -> np.ndarray:
    """The values (H, W) in another size, each that of the nearest pixel, as Pillow picks it.

    Args:
        rate: keep only the pixel in the middle of each cell of so many by so many; those at the right and the
            bottom may be smaller, and drop out if they have no middle.
        flip: mirror the values first.
    """
    rows = _nearest(values.shape[0], height)[rate // 2 :: rate]
    columns = _nearest(values.shape[1], width)[rate // 2 :: rate]
    if flip:
        columns = values.shape[1] - 1 - columns
    return values[rows[:, None], columns]


@lru_cache(maxsize=512)
def _nearest(length: int, new_length: int) -> np.ndarray:
    """For each new position, the old one below its centre."""
    # Added up, not multiplied, because the rounding decides which of two neighbours a centre falls to.
    steps = np.full(new_length, length / new_length)
    steps[0] /= 2
    return np.minimum(np.cumsum(steps).astype(np.intp), length - 1)
