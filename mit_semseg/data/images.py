"""Image files as 8-bit RGB, fast decoding of JPEG, and the normalization that the encoders expect."""

import math
import os
import threading
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from os import PathLike

import numpy as np
import simplejpeg
import torch
from PIL import Image, ImageOps

from ..errors import UserError
from .files import BANDS_FIX, naming, too_large
from .label_coding import LabelCoding
from .labels import read_label
from .orientation import UPRIGHT_FIX, Fit, fit, orientation_of
from .shards import content_of, opened

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, for RGB values from 0 to 1
STD = (0.229, 0.224, 0.225)

MOST_PIXELS = 2**29
"""Limit for an image to segment. Satellites and microscopes exceed Pillow's own limit."""

_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # Pillow opens some 16-bit formats as "I"
_SAMPLES = 277  # TIFF's tag with the number of bands
_MAGIC = b"\xff\xd8\xff"  # of a JPEG file
_COLORSPACES = ("YCbCr", "Gray")  # of JPEG files decoded here; Pillow converts all others

# Not those whose further images are previews or sizes of the first one.
_FORMATS_WITH_PAGES = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")
_PAGES = "pages"  # in Pillow's dict of what else is known of an image

_opening = threading.Lock()


def _renew_lock() -> None:
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    # Another thread of the parent may hold the lock, and does not exist in the child to release it.
    os.register_at_fork(after_in_child=_renew_lock)


def open_image(path: str | PathLike[str], *, upright: bool = False) -> Image.Image:
    """An image file as 8-bit RGB.

    Transparency is dropped, not blended with a background, as when the published models were trained. 16-bit
    gray and floating point from 0 to 1 are scaled, not clipped. An animation gives its first frame, and a
    TIFF of several pages its first page; `pages_of` the result returns how many the file has.

    Args:
        upright: rotate the image as its EXIF orientation says. Only for images without a label, because
            labels are drawn on the stored pixels.

    Raises: UserError, with the file's name, if it cannot be opened or decoded.
    """
    with naming(path), _open_large(path) as image:
        pages = getattr(image, "n_frames", 1) if image.format in _FORMATS_WITH_PAGES else 1
        rgb = as_rgb(ImageOps.exif_transpose(image) if upright else image, path)
        rgb.info[_PAGES] = pages
        return rgb


def pages_of(image: Image.Image) -> int:
    """The number of pages, or frames, in the file that `open_image` read an image from."""
    pages: int = image.info.get(_PAGES, 1)
    return pages


def _open_large(path: str | PathLike[str]) -> Image.Image:
    """The image as Pillow opens it, with `MOST_PIXELS` as the limit of its size."""
    file = opened(path)
    with _opening:  # Pillow's limit is shared by all threads
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            image = Image.open(file)
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
    """An image (H, W, 3) uint8 RGB and its label.

    The image has the values of `open_image`, and the label those of `read_label`.

    Args:
        at_least: the short edge, in pixels, that the caller needs. A JPEG file with a short edge of twice
            that or more is decoded at reduced size.

    Raises: UserError as `open_image` and `read_label` do, and if the files differ in size.
    """
    label = read_label(label_path, coding)
    size = label.shape[1], label.shape[0]
    with naming(image_path):
        data = content_of(image_path)
        pixels = decode_jpeg(data, size, at_least)
        if pixels is None:
            with Image.open(BytesIO(data)) as image:
                if image.size != size:  # known before anything is decoded
                    raise UserError(
                        f"{label_path} is {size[0]} x {size[1]} pixels, "
                        f"but its image {image_path} is {image.width} x {image.height}."
                        + _if_upright(image, size)
                    )
                pixels = np.array(as_rgb(image, image_path))
    return pixels, label


def _if_upright(image: Image.Image, label: tuple[int, int]) -> str:
    """What to do about an image whose label fits the upright view, as the end of a message; "" for others."""
    orientation = orientation_of(image)
    if fit(image.size, label, orientation) is not Fit.UPRIGHT:
        return ""
    return f" The label fits the upright view that EXIF orientation {orientation} gives. {UPRIGHT_FIX}"


def as_rgb(image: Image.Image, path: str | PathLike[str]) -> Image.Image:
    """An open image as 8-bit RGB, as described in `open_image`. Errors call it ``path``."""
    if (bands := hidden_bands(image)) > 1:
        raise UserError(f"{path} has {bands} bands, of which Pillow reads the first one. {BANDS_FIX}")
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode in _16_BIT:
        return _from_16_bit(image, path).convert("RGB")
    if image.mode == "F":
        return _from_floats(image, path).convert("RGB")
    if "transparency" in image.info:  # Pillow warns about a conversion straight to RGB
        image = image.convert("RGBA")
    return image.convert("RGB")


def hidden_bands(image: Image.Image) -> int:
    """The number of bands of a planar TIFF of which Pillow would read only the first; 1 for other images."""
    if image.format != "TIFF" or len(image.getbands()) > 1:
        return 1
    return int(getattr(image, "tag_v2", {}).get(_SAMPLES, 1))


def normalize(pixels: torch.Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> torch.Tensor:
    """A batch as the encoders expect it, (B, 3, H, W) float32: scaled to 0 to 1, minus MEAN, divided by STD.

    Args:
        pixels: (B, 3, H, W) uint8 RGB, on any device; or floating point, which is normalized and padded
            already, as images with bands are.
        sizes: (width, height) of each image without its padding. The padding becomes 0, the mean colour.
    """
    if pixels.is_floating_point():
        return pixels.contiguous()
    scale, shift = scale_and_shift(pixels.device)
    out = pixels.contiguous().to(torch.float32)
    out.mul_(scale).sub_(shift)
    for values, (width, height) in zip(out, sizes or (), strict=False):
        values[:, height:] = 0
        values[:, :, width:] = 0
    return out


@cache  # because sending numbers from Python to a GPU waits for the GPU
def scale_and_shift(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What `normalize` multiplies pixels by and then subtracts, (3, 1, 1) float32 each."""
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
    """Whether all values are from 0 to 1 and none is NaN, as a floating-point image requires.

    >>> unit_range(np.array([0, 0.5, 1])), unit_range(np.array([0, 255.0])), unit_range(np.array([np.nan]))
    (True, False, False)
    """
    return bool(values.min() >= 0 and values.max() <= 1)


def scaled_to_8_bit(values: np.ndarray) -> np.ndarray:
    """16-bit values scaled to uint8, rounded to the nearest.

    >>> scaled_to_8_bit(np.array([0, 128, 129, 65535], np.uint16)).tolist()
    [0, 0, 1, 255]
    """
    return ((values.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)


def decode_jpeg(data: bytes, size: tuple[int, int], at_least: int | None = None) -> np.ndarray | None:
    """The pixels (H, W, 3) uint8 RGB of a JPEG file, or None if Pillow has to decode it.

    Args:
        data: bytes of the file. The result is None unless it is an intact JPEG file of a common kind.
        size: the (width, height) that it must have. For another size the result is None, and nothing is
            decoded.
        at_least: the short edge, in pixels, that the caller needs. If half the size or less is enough, the
            image is decoded at that reduced size, in a fraction of the time.
    """
    if not data.startswith(_MAGIC):
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != size or colorspace not in _COLORSPACES:
            return None
        if height * width > (Image.MAX_IMAGE_PIXELS or math.inf):
            return None
        scale = 1 if at_least is None else at_least / min(height, width)
        return simplejpeg.decode_jpeg(
            data,
            min_height=min(height, math.ceil(height * scale)),
            min_width=min(width, math.ceil(width * scale)),
            min_factor=1 if at_least is None else 2,
        )
    except ValueError:
        return None
