"""The bands of a TIFF file, whatever its layout, compression and bit depth, read by tifffile.

Bands are the samples of a pixel, chunky or planar, or pages of one size, as tifffile and ImageJ write them.
"""

import logging
import math
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..runtime.packages import require
from .files import too_large
from .images import MOST_PIXELS

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are those of BigTIFF
_GDAL_NODATA = 42113  # the tag with GDAL's nodata value, as text
_MASK = 4  # of the tag NewSubfileType: a transparency mask for another page
INSTALL = "tifffile imagecodecs"


class TiffHeader(NamedTuple):
    """What a TIFF file says of its bands.

    Attributes:
        shape: height, width and number of bands.
        dtype: of the values.
        nodata: the value that stands for no data; None if the file names none.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    nodata: float | None


def is_tiff(start: bytes) -> bool:
    """Whether a file with these first bytes is a TIFF."""
    return start.startswith(_MAGIC)


def read_header(source: Path | BytesIO, path: str | PathLike[str]) -> TiffHeader:
    """The header of a TIFF file, which errors call ``path``. Raises: as `read_tiff`; no pixel is decoded."""
    with _opened(source, path) as file:
        return _header(file, path)


def read_tiff(
    source: Path | BytesIO, path: str | PathLike[str]
) -> tuple[np.ndarray, TiffHeader, np.ndarray | None]:
    """All bands of a TIFF file, (H, W, bands), its header, and its mask.

    Planar files give a transposed view. The mask, (H, W) bool, says where there are data; None without one.

    Raises: UserError if a package is missing, if the file holds several images or too large a one, or for a
        tile or strip that cannot be decoded, with its rows and columns; errors of tifffile for a damaged
        header.
    """
    with _opened(source, path) as file:
        header = _header(file, path)
        series = file.series[0]
        try:
            values = series.asarray()
        except Exception as error:  # each codec raises errors of its own
            raise UserError(_damage(series, path, error)) from error
        return _bands_last(values, series.axes), header, _mask(file, header.shape)


def _opened(source: Path | BytesIO, path: str | PathLike[str]) -> Any:
    tifffile = require("tifffile", path, INSTALL)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is raised
    return tifffile.TiffFile(source)


def _header(file: Any, path: str | PathLike[str]) -> TiffHeader:
    if not file.series:
        raise UserError(f"{path} is a TIFF file without an image. Fetch it again or drop it.")
    series = file.series[0]
    shape = dict(zip(series.axes, series.shape, strict=True))
    rest = [axis for axis in series.axes if axis not in "YX" and shape[axis] > 1]
    if "Y" not in shape or "X" not in shape or len(rest) > 1:
        sizes = " x ".join(map(str, series.shape))
        raise UserError(
            f"{path} holds an array of {sizes} (axes {series.axes}), not one image with bands. Save each "
            "image as a file of its own."
        )
    if shape["Y"] * shape["X"] > MOST_PIXELS:
        raise UserError(too_large(path, MOST_PIXELS))
    nodata = file.pages[0].tags.valueof(_GDAL_NODATA)
    bands = shape[rest[0]] if rest else 1
    return TiffHeader((shape["Y"], shape["X"], bands), np.dtype(series.dtype), _number(nodata))


def _mask(file: Any, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The mask page that GDAL writes into a file, (H, W) bool; None if there is none."""
    for page in file.pages[1:]:
        if page.subfiletype & _MASK and page.shape == shape[:2]:
            return np.asarray(page.asarray() != 0)
    return None


def _number(text: object) -> float | None:
    """The value of GDAL's tag. It is text, and GDAL ignores one that is not a number."""
    try:
        return float(str(text).strip("\0 ")) if text is not None else None
    except ValueError:
        return None


def _bands_last(values: np.ndarray, axes: str) -> np.ndarray:
    """An array with these axes as (H, W, bands), without a copy."""
    bands = [k for k, axis in enumerate(axes) if axis not in "YX" and values.shape[k] > 1]
    order = [axes.index("Y"), axes.index("X"), *bands]
    of_one = [k for k in range(values.ndim) if k not in order]
    return values.transpose(*order, *of_one).reshape(*(values.shape[k] for k in order[:2]), -1)


def _damage(series: Any, path: str | PathLike[str], error: Exception) -> str:
    """The message for a file whose pixels cannot be read, with the place of the first damaged tile."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        sizes = " x ".join(map(str, series.shape))
        return f"{path} does not fit into memory: it is {sizes} values of type {series.dtype}."
    if "imagecodecs" in reason and find_spec("imagecodecs") is None:
        return f"{path} is compressed in a way that needs the package imagecodecs. Run: pip install {INSTALL}"
    for page in filter(None, series.pages):
        for place in _damaged_segments(page):
            return f"{path} is damaged in {place} ({reason}). Fetch it again or drop it."
    return f"{path} is damaged ({reason}). Fetch it again or drop it."


def _damaged_segments(page: Any) -> Iterator[str]:
    """The place of each tile or strip of a page that cannot be decoded, in words."""
    height, width = page.imagelength, page.imagewidth
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    across, down = math.ceil(width / columns), math.ceil(height / rows)
    kind = "tile" if page.is_tiled else "strip"
    file = page.parent.filehandle
    for k, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        if not count:  # GDAL does not store tiles without data
            continue
        try:
            file.seek(offset)
            data = file.read(count)
            if len(data) == count:
                page.decode(data, k)
                continue
        except Exception:  # the damage that is looked for, of any kind
            ...
        top, left = k // across % down * rows, k % across * columns
        last_row, last_column = min(height, top + rows) - 1, min(width, left + columns) - 1
        of_band = (
            f", band {k // (across * down) + 1}" if page.planarconfig == 2 and down * across <= k else ""
        )
        yield f"{kind} {k + 1}{of_band}, rows {top} to {last_row}, columns {left} to {last_column}"
