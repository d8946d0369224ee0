"""An image with bands: decoded, and described in a few numbers."""

from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from ...data.bands import BandSelection, Pixels
from ...data.raster import read_raster
from ...errors import UserError
from .alignment import small_gray
from .decode import FileFacts, content_of, digest_of

_MOST_NAMED = 6  # bands in a detail


def read_bands(path: str, selection: BandSelection) -> FileFacts:
    """Reads and decodes an image with bands. Never raises, whatever the file is or holds."""
    data = content_of(path)
    if isinstance(data, FileFacts):
        return data
    digest = digest_of(data)
    del data
    try:
        raster = read_raster(path)
    except UserError as error:
        return FileFacts(kind_of(str(error)), str(error).removeprefix(f"{path} "), digest)
    except MemoryError:
        return FileFacts("bomb", "does not fit into memory", digest)
    height, width, count = raster.values.shape
    about = {"digest": digest, "width": width, "height": height, "mode": f"{count} x {raster.values.dtype}"}
    try:
        pixels = selection.select(raster.values, "", raster.nodata, raster.valid)
    except UserError as error:
        return FileFacts("band_missing", str(error).strip(), **about)
    return FileFacts(**about, **describe_bands(pixels, pixels.without_data, selection))


def describe_bands(pixels: Pixels, hidden: np.ndarray | None, selection: BandSelection) -> dict[str, Any]:
    """The fields of `FileFacts` about the content of some bands. ``hidden`` is True without data, (h, w)."""
    first = pixels.values[..., 0].astype(np.float32)
    if pixels.absent is not None:
        absent = pixels.absent[..., 0]
        first[absent] = first[~absent].mean() if not absent.all() else 0
    return {
        "empty": 0.0 if hidden is None else float(hidden.mean()),
        "constant": _constant(pixels, selection),
        "small": small_gray(Image.fromarray(first)),
    }


def hint_at_bands(path: str) -> str:
    """What a file holds if it is an image that only a config with bands reads; "" for others."""
    with suppress(UserError, MemoryError):
        values = read_raster(path).values
        count = values.shape[2]
        return f"{count} band{'s' * (count > 1)} of type {values.dtype}"
    return ""


def kind_of(message: str) -> str:
    """The kind of problem of a file that a message is about."""
    return "truncated" if "truncated" in message else "unreadable" if "pip install" in message else "damaged"


def _constant(pixels: Pixels, selection: BandSelection) -> str:
    """The bands in which all values that are there are equal, in words; "" for none, or without any data."""
    found = []
    for k in range(pixels.values.shape[2]):
        values = pixels.values[..., k]
        there = values if pixels.absent is None else values[~pixels.absent[..., k]]
        if there.size and there.min() == there.max():
            number = selection.numbers[k] if selection.numbers else k + 1
            found.append(f"band {number} is {np.asarray(there).flat[0]:g}")
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more
