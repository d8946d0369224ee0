"""One file: read once, decoded from memory, described in a few numbers."""

import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..images import unit_range
from ..labels import GRAY_STEP
from .header import claimed_size, image_format, is_cut_off, other_format

_LARGEST_FILE = 2 * 2**30  # bytes; nothing larger can hold an image that Pillow's limit lets pass
_BLOCK = 2**20  # pixels counted at a time, since counting takes 8 bytes a pixel
_LOSSY = ("JPEG", "MPO", "JPEG2000")
_EXIF_ORIENTATION = 0x0112
_DETAIL = 120  # characters of a decoder's words that are kept

_NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class File:
    """What one file is."""

    problem: str = ""
    """A key of `kinds.KINDS`, "" if the file is fine."""
    detail: str = ""
    """What there is to say to the problem."""
    digest: int = 0
    """Of the file's bytes, 64 bits; 0 if they could not be read."""
    width: int = 0
    """As stored, in pixels; 0 if unknown."""
    height: int = 0
    mode: str = ""
    """Pillow's: L, P, RGB, I;16, ..."""
    orientation: int = 1
    """EXIF's: 1 is upright, 5 to 8 swap the sides."""
    values: np.ndarray = field(default_factory=lambda: _NOTHING)
    """Of a label: its distinct values, ascending, (K,) int64."""
    counts: np.ndarray = field(default_factory=lambda: _NOTHING)
    """How many pixels have each of them, (K,) int64."""


def digest_of(data: bytes) -> int:
    """64 bits of a hash; among a million files two different ones share it once in 30 million lists."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") or 1


def read_image(path: str) -> File:
    """Reads and decodes an image. Never raises for anything that the file is or holds."""
    return _read(path, _describe_image)


def read_label(path: str) -> File:
    """Reads and decodes a label and counts its values. Never raises, as `read_image`."""
    return _read(path, _describe_label)


def _read(path: str, describe: Callable[[Image.Image], dict[str, Any]]) -> File:
    try:
        data = _bytes(path)
    except _ProblemError as problem:
        return File(*problem.args)
    digest = digest_of(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, odd EXIF, ...: what matters is found below
            with Image.open(BytesIO(data)) as image:
                return File(digest=digest, **describe(image))
    except UnidentifiedImageError:
        return File(*_unidentified(data), digest)
    except Image.DecompressionBombError as error:
        width, height = claimed_size(data) or (0, 0)
        claim = f"claims {width} x {height} pixels" if width else str(error)[:_DETAIL]
        return File("bomb", f"{claim} in {len(data):,} bytes", digest)
    except MemoryError:
        return File("bomb", "does not fit into memory", digest)
    except Exception as error:  # what a decoder raises for a damaged file is not limited to OSError
        words = " ".join(str(error).split())[:_DETAIL] or type(error).__name__
        truncated = isinstance(error, EOFError) or "truncated" in words.lower() or is_cut_off(data)
        return File("truncated" if truncated else "damaged", words, digest)


class _ProblemError(Exception):
    """Ends the reading of a file; its arguments are the kind of problem and the detail."""


def _bytes(path: str) -> bytes:
    """The content of a regular file: reading a pipe or a device might never end."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise _ProblemError(
                "unreadable", "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            )
        if status.st_size > _LARGEST_FILE:
            raise _ProblemError(
                "unreadable", f"{status.st_size / 2**30:.1f} GiB, more than an image can have"
            )
        data = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _ProblemError("missing", "") from None
    except OSError as error:
        raise _ProblemError("unreadable", error.strerror or str(error)) from None
    if not data:
        raise _ProblemError("empty", "")
    return data


def _unidentified(data: bytes) -> tuple[str, str]:
    """Kind of problem and detail of a file that Pillow takes for no image."""
    size = claimed_size(data)
    if size and 0 in size:
        return "zero_size", f"{size[0]} x {size[1]} pixels"
    name = image_format(data)
    if name:
        return (
            "truncated" if is_cut_off(data) else "damaged",
            f"begins as a {name} file, but its header cannot be read",
        )
    return "not_an_image", other_format(data)


def _describe_image(image: Image.Image) -> dict[str, Any]:
    about = _common(image)
    image.draft(None, (1, 1))  # JPEGs: every byte is read, but few pixels are made
    image.load()
    about["orientation"] = _orientation(image)
    if image.mode == "F" and not unit_range(np.asarray(image)):
        return {**about, "problem": "image_mode", "detail": "floating-point values beyond 0 to 1"}
    if image.mode == "I":
        low, high = image.getextrema()
        if low < 0 or high > 65535:  # type: ignore[operator]
            return {**about, "problem": "image_mode", "detail": f"values from {low} to {high}"}
    return about


def _describe_label(image: Image.Image) -> dict[str, Any]:
    about = _common(image)
    tiles = getattr(image, "tile", None)
    packing = tiles[0].args if tiles else None
    image.load()
    if image.mode in ("L", "P", "1"):
        counts = np.array(image.histogram(), np.int64)
        values = np.flatnonzero(counts)
        counts = counts[values]
        if image.mode == "1":
            values = values // 255
        elif isinstance(packing, str) and packing in GRAY_STEP:
            values = values // GRAY_STEP[packing]
    elif image.mode == "I" or image.mode.startswith("I;16"):
        low, high = image.getextrema()
        if low < 0 or high > 65535:  # type: ignore[operator]
            return {
                **about,
                "problem": "label_mode",
                "detail": f"values from {low} to {high}; 0 to 65535 fit",
            }
        values, counts = _count_wide(np.asarray(image))
    else:
        return {**about, **_wrong_mode(image)}
    lossy = image.format in _LOSSY or image.info.get("compression") == "jpeg"  # the latter in a TIFF
    problem = {"problem": "label_lossy", "detail": str(image.format)} if lossy else {}
    return {**about, **problem, "values": values, "counts": counts}


def _common(image: Image.Image) -> dict[str, Any]:
    return {"width": image.width, "height": image.height, "mode": image.mode}


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF keeps nobody from using the pixels
        return 1
    return value if value in range(1, 9) else 1


def _count_wide(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of a 16-bit label, and how often each occurs."""
    total = np.zeros(65536, np.int64)
    rows = max(1, _BLOCK // max(1, array.shape[1]))
    for top in range(0, array.shape[0], rows):
        block = array[top : top + rows].astype(np.int64).ravel()
        total += np.bincount(block, minlength=len(total))
    values = np.flatnonzero(total)
    return values, total[values]


def _wrong_mode(image: Image.Image) -> dict[str, Any]:
    """The problem of a label that is neither gray nor of a palette."""
    if image.mode == "F":
        return {"problem": "label_float", "detail": "floating-point values"}
    if image.mode in ("RGB", "RGBA"):
        red, green, blue = (band.tobytes() for band in image.split()[:3])
        gray = red == green == blue
        return {"problem": "label_gray_in_rgb" if gray else "label_rgb", "detail": image.mode}
    return {"problem": "label_mode", "detail": f"mode {image.mode}"}
