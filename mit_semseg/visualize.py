"""Pictures of label maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import ArrayLike, NDArray
from PIL.PngImagePlugin import PngInfo

from .atomic import replacing

Image = NDArray[np.uint8]  # (H, W, 3), RGB

MARK = "mit_semseg"
"""What the pictures and videos that the package writes say of the software they were made by."""


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
    if labels.dtype.kind != "u":
        labels = np.maximum(labels if labels.dtype.kind == "i" else labels.astype(np.int64), -1)
    return np.take(with_black, labels, axis=0)  # a sixth of the time of with_black[labels]


def overlay(image: Image, labelmap: ArrayLike, colors: ArrayLike, alpha: float = 0.5) -> Image:
    """A photo with its label map laid over it; where labels are negative, the photo stays as it is.

    Args:
        image: (H, W, 3).
        labelmap: (H, W) classes.
        colors: (num_class, 3) uint8.
        alpha: weight of the colours, from 0 (the photo alone) to 1.

    Returns: (H, W, 3) uint8.
    Raises: ValueError for an alpha out of range, for sizes that differ, and as `colorEncode`.
    """
    labels = np.asarray(labelmap)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, but takes a number from 0 to 1")
    if image.shape[:2] != labels.shape:
        raise ValueError(f"image is {image.shape[:2]} (height, width), but labelmap is {labels.shape}")
    weight = np.uint16(round(256 * alpha))
    blended = colorEncode(labels, colors).astype(np.uint16)
    blended *= weight
    blended += image * np.uint16(256 - weight)
    blended += np.uint16(128)
    blended >>= np.uint16(8)
    result = blended.astype(np.uint8)
    if labels.dtype.kind != "u":
        unlabelled = labels < 0
        result[unlabelled] = image[unlabelled]
    return result


def side_by_side(pictures: Sequence[Image]) -> Image:
    """Pictures of the same height in a row."""
    return np.concatenate(list(pictures), axis=1)


def save_picture(picture: NDArray[np.uint8] | NDArray[np.uint16], path: Path) -> None:
    """Write a picture as PNG; the file is complete or not there, and its folder is made.

    Args:
        picture: (H, W, 3) RGB, or (H, W) gray values of 8 or 16 bits.

    Raises: UserError if the disk refuses.
    """
    info = PngInfo()
    info.add_text("Software", MARK)
    with replacing(path) as file:
        PIL.Image.fromarray(picture).save(
            file,
            format="PNG",
            compress_level=1,  # the default takes 5 times as long
            pnginfo=info,
        )


def is_own_picture(path: Path) -> bool:
    """Whether `save_picture` has written a file, as far as it is a PNG at all."""
    try:
        with PIL.Image.open(path, formats=["PNG"]) as image:
            return image.info.get("Software") == MARK
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):  # no PNG, or a damaged one
        return False
