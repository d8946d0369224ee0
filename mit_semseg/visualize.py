"""Pictures of label maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import ArrayLike, NDArray

from .atomic import replacing

Image = NDArray[np.uint8]  # (H, W, 3), RGB


def colorEncode(labelmap: ArrayLike, colors: ArrayLike, mode: str = "RGB") -> Image:
    """A label map in colours.

    Args:
        labelmap: (H, W) classes; negative ones come out black.
        colors: (num_class, 3) uint8.
        mode: "RGB", or "BGR" for the channels in reverse.

    Returns: (H, W, 3) uint8.
    Raises: ValueError for a class that has no colour, or another mode.
    """
    labels, table = np.asarray(labelmap), np.asarray(colors, np.uint8)
    if mode not in ("RGB", "BGR"):
        raise ValueError(f"mode is {mode!r}, but takes 'RGB' or 'BGR'")
    if labels.size and labels.max() >= len(table):
        raise ValueError(f"labelmap holds class {labels.max()}, but there are {len(table)} colours")
    if mode == "BGR":
        table = table[:, ::-1]
    with_black = np.concatenate([table, np.zeros((1, 3), np.uint8)])  # its last row, that is index -1
    return with_black[np.maximum(labels.astype(np.int64), -1)]


def side_by_side(pictures: Sequence[Image]) -> Image:
    """Pictures of the same height in a row."""
    return np.concatenate(list(pictures), axis=1)


def save_picture(picture: Image, path: Path) -> None:
    """Write a picture as PNG; the file is complete or not there, and its folder is made.

    Raises: UserError if the disk refuses.
    """
    with replacing(path) as file:
        PIL.Image.fromarray(picture).save(
            file, format="PNG", compress_level=1
        )  # the default takes 5 times as long
