"""Files of any number of bands and any bit depth: TIFF, NPY, PNG of 16 bits, and all that Pillow reads."""

from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from ..errors import UserError
from ..runtime.packages import require
from .files import naming
from .shards import content_of, opened
from .tiff import INSTALL, is_tiff, read_header, read_tiff

RASTER_EXTENSIONS = (".npy",)
"""Extensions of images besides those in `files.IMAGE_EXTENSIONS`."""

_NPY = b"\x93NUMPY"
_PNG = b"\x89PNG\r\n\x1a\n"
_START = 26  # bytes, up to the bit depth and the colour type of a PNG
_GRAY = 0  # a PNG's colour type
_FROM_PILLOW = {"1": np.uint8}  # other modes have the type of their array
_PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I", "F", "CMYK")


class Raster(NamedTuple):
    """All bands of a file.

    Attributes:
        values: (H, W, bands), of the file's type; maybe a view with other strides, or of a file on the disk.
        nodata: the value that stands for no data; None if the file names none.
        valid: where the file's mask says that there are data, (H, W) bool; None without a mask.
    """

    values: np.ndarray
    nodata: float | None = None
    valid: np.ndarray | None = None


def read_raster(path: str | PathLike[str]) -> Raster:
    """All bands of an image file.

    - TIFF: integers and floating point of up to 64 bits, see `tiff`.
    - NPY: an array (H, W) or (H, W, bands).
    - PNG: 8 or 16 bits.
    - Others: the channels that Pillow decodes. Palettes become RGB.

    Raises: UserError, with the file's name, if it cannot be read or is not such an image.
    """
    with naming(path):
        file = opened(path)
        start = _start(file)
        if is_tiff(start):
            values, header, valid = read_tiff(file, path)
            return Raster(_real(values, path), header.nodata, valid)
        if start.startswith(_NPY):
            return Raster(_real(_read_npy(file, path), path))
        if start.startswith(_PNG) and start[24] == 16 and start[25] != _GRAY:
            # Pillow drops the low 8 bits of each channel.
            values = require("imagecodecs", f"{path}, a PNG of 16 bits with several channels,", INSTALL)
            return Raster(_three(values.png_decode(content_of(path))))
        with Image.open(file) as image:
            return Raster(_three(_from_pillow(image, path)))


def is_raster(path: str | PathLike[str]) -> bool:
    """Whether a file is a TIFF or an array, by its first bytes."""
    try:
        start = _start(opened(path))
    except (OSError, UserError):
        return False
    return is_tiff(start) or start.startswith(_NPY)


def raster_size(path: str | PathLike[str]) -> tuple[int, int]:
    """(width, height) of an image file. No pixel is decoded. Raises: as `read_raster`."""
    with naming(path):
        file = opened(path)
        start = _start(file)
        if is_tiff(start):
            height, width, _ = read_header(file, path).shape
            return width, height
        if start.startswith(_NPY):
            values = _read_npy(file, path)
            return values.shape[1], values.shape[0]
        with Image.open(file) as image:
            return image.size


def _start(file: Path | BytesIO) -> bytes:
    if isinstance(file, BytesIO):
        return file.getvalue()[:_START]
    with file.open("rb") as stream:
        return stream.read(_START)


def _read_npy(file: Path | BytesIO, path: str | PathLike[str]) -> np.ndarray:
    mode: Literal["r"] | None = "r" if isinstance(file, Path) else None
    values: np.ndarray = np.load(file, mmap_mode=mode, allow_pickle=False)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise UserError(
            f"{path} is an array of shape {values.shape}, but an image is (H, W) or (H, W, bands)."
        )
    return _three(values)


def _from_pillow(image: Image.Image, path: str | PathLike[str]) -> np.ndarray:
    image.load()
    if image.mode in _PLAIN_MODES:
        return np.asarray(image, _FROM_PILLOW.get(image.mode))
    with_alpha = "A" in image.mode or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if with_alpha else "RGB"))


def _three(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 3 else values[..., None]


def _real(values: np.ndarray, path: object) -> np.ndarray:
    """Values that are real numbers, booleans as 0 and 1. Raises: UserError for others."""
    if values.dtype == bool:
        return values.view(np.uint8)
    if values.dtype.kind not in "iuf":
        raise UserError(
            f"{path} holds values of type {values.dtype}, but bands are integers or floating point."
        )
    return values
