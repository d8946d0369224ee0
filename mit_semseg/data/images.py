"""Images from files, of any mode that Pillow opens, and as the encoders want them."""

import threading
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ..errors import UserError
from .files import naming, regular, too_large
from .jpeg import decode_jpeg
from .labels import LabelCoding, read_label

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB values from 0 to 1, with which the encoders were trained
STD = (0.229, 0.224, 0.225)

MOST_PIXELS = 2**29
"""Of an image to segment: satellites and microscopes take larger ones than Pillow lets pass by itself."""

_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # "I" is what Pillow makes of some 16-bit formats


def open_image(path: str | PathLike[str], *, upright: bool = False) -> Image.Image:
    """An image file as 8-bit RGB.

    Transparency is dropped, not blended with a background, as when the published models were trained. 16-bit
    gray is scaled, not clipped, and so is floating point from 0 to 1. An animation or a TIFF of several pages
    gives its first.

    Args:
        upright: turn the image as its EXIF orientation says. Only for images without a label, because labels
            are drawn on the pixels as they are stored.

    Raises: UserError, with the file's name, if it cannot be opened and decoded.
    """
    with naming(path), _open_large(regular(path)) as image:
        return as_rgb(ImageOps.exif_transpose(image) if upright else image, path)


_opening = threading.Lock()


def _open_large(path: Path) -> Image.Image:
    """As Pillow's ``open``, for images of up to `MOST_PIXELS`."""
    with _opening:  # the limit is the process's
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise UserError(too_large(path, MOST_PIXELS))
    return image


def open_pair(
    image_path: str | PathLike[str],
    label_path: str | PathLike[str],
    coding: LabelCoding,
    at_least: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) uint8 RGB, with the values of `open_image`, and its label as `read_label` gives it.

    Args:
        at_least: the short edge, in pixels, that is needed of the image. Where that is half of what a JPEG
            file has, or less, it is decoded at reduced size.

    Raises: UserError as the two do, and if the files differ in size.
    """
    label = read_label(label_path, coding)
    size = label.shape[1], label.shape[0]
    with naming(image_path):
        data = regular(image_path).read_bytes()
        pixels = decode_jpeg(data, size, at_least)
        if pixels is None:
            with Image.open(BytesIO(data)) as image:
                if image.size != size:  # known before anything is decoded
                    raise UserError(
                        f"{label_path} is {size[0]} x {size[1]} pixels, "
                        f"but its image {image_path} is {image.width} x {image.height}."
                    )
                pixels = np.array(as_rgb(image, image_path))
    return pixels, label


def as_rgb(image: Image.Image, path: str | PathLike[str]) -> Image.Image:
    """An open image as `open_image` gives it, which says more. ``path`` is what errors call it."""
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode in _16_BIT:
        return _from_16_bit(image, path).convert("RGB")
    if image.mode == "F":
        return _from_floats(image, path).convert("RGB")
    if "transparency" in image.info:  # converted straight to RGB, Pillow warns about it
        image = image.convert("RGBA")
    return image.convert("RGB")


def normalize(pixels: torch.Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> torch.Tensor:
    """A batch as the encoders want it: values from 0 to 1, minus MEAN, by STD; (B, 3, H, W) float32.

    Args:
        pixels: (B, 3, H, W) uint8 RGB, on any device.
        sizes: (width, height) of each image without its padding, which becomes 0, the mean colour.
    """
    scale, shift = _scale_and_shift(pixels.device)
    out = pixels.contiguous().to(torch.float32)
    out.mul_(scale).sub_(shift)
    for values, (width, height) in zip(out, sizes or (), strict=False):
        values[:, height:] = 0
        values[:, :, width:] = 0
    return out


@cache  # because a GPU that is sent numbers from Python is waited for
def _scale_and_shift(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    scale = torch.tensor([1 / (255 * std) for std in STD], device=device)
    shift = torch.tensor([mean / std for mean, std in zip(MEAN, STD, strict=True)], device=device)
    return scale.view(3, 1, 1), shift.view(3, 1, 1)


def _from_16_bit(image: Image.Image, path: str | PathLike[str]) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise UserError(
            f"{path} holds values from {values.min()} to {values.max()}, more than 16 bits. "
            f"Save it with 8 or 16 bits."
        )
    return Image.fromarray(scaled_to_8_bit(values))


def _from_floats(image: Image.Image, path: str | PathLike[str]) -> Image.Image:
    values = np.asarray(image)
    if not unit_range(values):
        raise UserError(
            f"{path} holds floating-point values from {values.min():.4g} to {values.max():.4g}, "
            "not from 0 to 1. Save it with 8 or 16 bits."
        )
    return Image.fromarray(np.rint(values * np.float32(255)).astype(np.uint8))


def unit_range(values: np.ndarray) -> bool:
    """Whether all values are from 0 to 1, none of them NaN; what a floating-point image has to have.

    >>> unit_range(np.array([0, 0.5, 1])), unit_range(np.array([0, 255.0])), unit_range(np.array([np.nan]))
    (True, False, False)
    """
    return bool(values.min() >= 0 and values.max() <= 1)


def scaled_to_8_bit(values: np.ndarray) -> np.ndarray:
    """Values of 16 bits as uint8, rounded to the nearest.

    >>> scaled_to_8_bit(np.array([0, 128, 129, 65535], np.uint16)).tolist()
    [0, 0, 1, 255]
    """
    return ((values.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)
