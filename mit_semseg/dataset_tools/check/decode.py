"""One file: read once, decoded from memory, and described in a few numbers."""

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

from ...data.images import hidden_bands, unit_range
from ...data.label_diagnosis import count_classes
from ...data.label_files import LabelError, nodata_of, unread_lossy_format, values_of
from ...data.orientation import orientation_of
from ...data.remote import address_of, fetched
from ...data.scenes import LOCAL_ONLY
from ...data.shards import member_of, read_member
from ...errors import ContentError
from ...runtime.near_names import did_you_mean
from .alignment import LONG_EDGE, small_borders, small_gray

_LARGEST_FILE = 2 * 2**30  # bytes; an image in a larger file would exceed Pillow's limit of pixels
_DETAIL = 120  # characters of a decoder's message that are kept

# Starts of files that are not images, compared in lower case.
_TEXT = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML file"),
    (b"%pdf", "a PDF file"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x93numpy", "a NumPy array"),
)
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_TAIL = 64  # bytes searched for the end mark: some programs write a few more bytes after it
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # JPEG markers from C0 to CF that are not frame headers

_NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What was found out about one file."""

    problem: str = ""
    """A key of `issue_types.ISSUE_TYPES`, or "" if the file is fine."""
    detail: str = ""
    """More about the problem."""
    digest: int = 0
    """64-bit hash of the file's bytes; 0 if they could not be read."""
    width: int = 0
    """In pixels, as stored; 0 if unknown."""
    height: int = 0
    mode: str = ""
    """Pillow's mode: L, P, RGB, I;16, ...; with bands their number and type: 12 x uint16."""
    orientation: int = 1
    """EXIF's orientation: 1 is upright, 5 to 8 swap width and height."""
    values: np.ndarray = field(default_factory=lambda: _NOTHING)
    """Distinct values of a label, ascending, (K,) int64."""
    counts: np.ndarray = field(default_factory=lambda: _NOTHING)
    """Number of pixels of each value, (K,) int64."""
    small: np.ndarray | None = None
    """A small picture, (h, w): the image in gray, or the borders in a label, as `alignment` compares them."""
    nodata: int = -1
    """The value of a label that stands for no data, by GDAL's tag, if it occurs. It is not in ``values``."""
    empty: float = 0.0
    """The share of pixels without data, of an image with bands."""
    constant: str = ""
    """The bands that hold a single value, in words."""
    places: tuple[str, ...] = ()
    """The damaged tiles of a scene, in words."""


def digest_of(data: bytes) -> int:
    """A 64-bit hash, never 0. A million different files have two equal hashes with probability 3e-8."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") or 1


def read_image(path: str) -> FileFacts:
    """Reads and decodes an image. Never raises, whatever the file is or holds."""
    return _read(path, _describe_image)


def read_label(path: str) -> FileFacts:
    """Reads and decodes a label and counts its values. Never raises, like `read_image`."""
    return _read(path, _describe_label)


def content_of(path: str) -> bytes | FileFacts:
    """The bytes of a file, or why there are none."""
    try:
        return _bytes(path)
    except _ProblemError as problem:
        return FileFacts(*problem.args)


def _read(path: str, describe: Callable[[Image.Image], dict[str, Any]]) -> FileFacts:
    data = content_of(path)
    if isinstance(data, FileFacts):
        return data
    digest = digest_of(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images, odd EXIF, ...: what matters is found below
            with Image.open(BytesIO(data)) as image:
                return FileFacts(digest=digest, **describe(image))
    except UnidentifiedImageError:
        if describe is _describe_label and (lossy := unread_lossy_format(data)):
            return FileFacts("label_lossy", LabelError.of_lossy("", lossy).what, digest)
        return FileFacts(*_unidentified(data), digest)
    except Image.DecompressionBombError as error:
        width, height = claimed_size(data) or (0, 0)
        claim = f"claims {width} x {height} pixels" if width else str(error)[:_DETAIL]
        return FileFacts("bomb", f"{claim} in {len(data):,} bytes", digest)
    except MemoryError:
        return FileFacts("bomb", "does not fit into memory", digest)
    except Exception as error:  # decoders raise errors of many kinds for damaged files
        words = " ".join(str(error).split())[:_DETAIL] or type(error).__name__
        truncated = isinstance(error, EOFError) or "truncated" in words.lower() or is_cut_off(data)
        return FileFacts("truncated" if truncated else "damaged", words, digest)


def why_unreadable(path: str) -> FileFacts | None:
    """Why a file has no bytes to read; None if it has some. They are not read."""
    try:
        _size_of(path)
    except _ProblemError as problem:
        return FileFacts(*problem.args)
    return None


class _ProblemError(Exception):
    """Ends the reading of a file. Its arguments are `FileFacts.problem` and `FileFacts.detail`."""


def _size_of(path: str) -> int:
    """The bytes of a regular file, at least 1; reading a pipe or a device may never end."""
    if address_of(path):
        raise _ProblemError("unreadable", LOCAL_ONLY)
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise _ProblemError("missing", did_you_mean(path).strip()) from None
    except OSError as error:
        raise _ProblemError("unreadable", error.strerror or str(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise _ProblemError(
            "unreadable", "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        )
    if not status.st_size:
        raise _ProblemError("empty", "")
    return status.st_size


def _bytes(path: str) -> bytes:
    """The content of a regular file that may be an image, of a member of a shard, or of an address."""
    try:
        if member := member_of(path):
            data = read_member(member)
        elif address := address_of(path):
            data = fetched(address)
        else:
            data = _file_bytes(path)
    except ContentError as error:
        raise _ProblemError(error.kind, error.text) from None
    except OSError as error:
        raise _ProblemError("unreadable", error.strerror or str(error)) from None
    if not data:
        raise _ProblemError("empty", "")  # a file of /proc, or one that another program has emptied
    return data


def _file_bytes(path: str) -> bytes:
    size = _size_of(path)
    if size > _LARGEST_FILE:
        raise _ProblemError("unreadable", f"{size / 2**30:.1f} GiB, more than an image can have")
    return Path(path).read_bytes()


def _unidentified(data: bytes) -> tuple[str, str]:
    """Problem and detail of a file that Pillow does not recognize as an image."""
    size = claimed_size(data)
    if size and 0 in size:
        return "zero_size", f"{size[0]} x {size[1]} pixels"
    name = image_format(data)
    if name:
        return (
            "truncated" if is_cut_off(data) else "damaged",
            f"starts like a {name} file, but its header cannot be read",
        )
    return "not_an_image", other_format(data)


def _describe_image(image: Image.Image) -> dict[str, Any]:
    about = _common(image)
    if (bands := hidden_bands(image)) > 1:
        return {**about, "problem": "needs_bands", "detail": f"{bands} bands"}
    # Of a JPEG, every byte is read, but few pixels are computed.
    image.draft(None, (LONG_EDGE, LONG_EDGE))
    image.load()
    about["orientation"] = orientation_of(image)
    if image.mode == "F" and not unit_range(np.asarray(image)):
        return {**about, "problem": "image_mode", "detail": "floating-point values outside of 0 to 1"}
    if image.mode == "I":
        low, high = image.getextrema()
        if low < 0 or high > 65535:  # type: ignore[operator]
            return {**about, "problem": "image_mode", "detail": f"values from {low} to {high}"}
    return {**about, "small": small_gray(image)}


def _describe_label(image: Image.Image) -> dict[str, Any]:
    about = _common(image)
    try:
        pixels = values_of(image, "The label")
        values, counts = count_classes(pixels, "The label")
    except LabelError as error:
        return {**about, "problem": error.kind, "detail": error.what}
    about |= {"small": small_borders(pixels)}
    nodata = nodata_of(image)
    if nodata in values:
        kept = values != nodata
        return {**about, "values": values[kept], "counts": counts[kept], "nodata": nodata}
    return {**about, "values": values, "counts": counts}


def _common(image: Image.Image) -> dict[str, Any]:
    return {"width": image.width, "height": image.height, "mode": image.mode}


def image_format(data: bytes) -> str:
    """The image format that a file's first bytes stand for; "" for other files."""
    return next((name for magic, name in _MAGIC if data.startswith(magic)), "")


def other_format(data: bytes) -> str:
    """What a file is instead of an image, with its article; "" if unknown."""
    start = data[:64].lstrip().lower()
    return next((name for magic, name in _TEXT if start.startswith(magic)), "")


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in the header of a PNG, GIF, BMP or JPEG file; None for other files."""
    kind = image_format(data)
    if kind == "PNG" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if kind == "GIF" and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if kind == "BMP" and len(data) >= 26:
        width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
        return width, abs(height)  # negative if the rows go from top to bottom
    if kind == "JPEG":
        return _jpeg_size(data)
    return None


def is_cut_off(data: bytes) -> bool:
    """Whether a PNG or JPEG file lacks its end mark."""
    end = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}.get(image_format(data))
    return end is not None and end not in data[-_TAIL:]


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + length
    return None
