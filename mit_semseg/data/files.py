"""Files of a dataset: their kinds, and errors that name them."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from ..runtime.near_names import did_you_mean
from .folders import search
from .remote import forgetting

_HEIF = (".heic", ".heif", ".hif")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_GET_HEIF = "pip install pillow-heif"
BANDS_FIX = (
    "If it has other bands or bit depths, set DATASET.channels and compute the statistics of the dataset "
    "with `mit-semseg data stats`; see docs/bands.md."
)
"""What to do about an image that is not 8-bit RGB."""

_MOST_KINDS = 8  # of files in a sentence


def _register_heif() -> bool:
    """Let Pillow read HEIF images with the package pillow-heif. Returns whether it can."""
    try:
        pillow_heif = import_module("pillow_heif")
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


IMAGE_EXTENSIONS = (
    *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    *(_HEIF if _register_heif() else ()),
)
VIDEO_EXTENSIONS = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"),
    *(".ts", ".webm", ".wmv"),
)


def is_video(path: str | PathLike[str]) -> bool:
    """Whether a file has the extension of a video, in any case."""
    return extension(path) in VIDEO_EXTENSIONS


def extension(path: str | PathLike[str]) -> str:
    """The extension of a path in lower case, with its dot; "" if it has none."""
    return os.path.splitext(path)[1].lower().rstrip(".")  # noqa: PTH122 - Path takes five times as long


def find_recursive(root_dir: str | PathLike[str], ext: str = ".jpg") -> list[str]:
    """All files in a folder and its subfolders whose names end with ``ext``, in any case; sorted.

    See `search` for the folders that are searched.
    """
    return [file for file in search(root_dir).files if file.lower().endswith(ext.lower())]


def counted(
    files: Iterable[str | PathLike[str]], hint: Callable[[str, int], str] = lambda kind, count: ""
) -> str:
    """How many files there are of each kind, the most frequent first: "3 .txt, 1 without extension".

    Args:
        hint: returns what to do about a number of files with an extension, in lower case; "" for nothing.
    """
    kinds = Counter(map(extension, files))
    words = []
    for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])):
        said = _GET_HEIF if kind in _HEIF and kind not in IMAGE_EXTENSIONS else hint(kind, count)
        words.append(f"{count} {kind or 'without extension'}" + (f" ({said})" if said else ""))
    if len(words) > _MOST_KINDS:
        rest = sorted(kinds.values(), reverse=True)[_MOST_KINDS:]
        words[_MOST_KINDS:] = [f"{sum(rest)} of {len(rest)} other kinds"]
    return ", ".join(words)


def regular(path: str | PathLike[str]) -> Path:
    """The path itself. Raises: UserError for a pipe or a device, because reading it may never end."""
    if Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        raise UserError(f"{path} is a pipe or a device, not a file. Drop it from the list.")
    return Path(path)


def is_empty(path: str | PathLike[str]) -> bool:
    """Whether a file has no bytes; False if it has disappeared since it was opened."""
    try:
        return Path(path).stat().st_size == 0
    except OSError:
        return False


def too_large(path: str | PathLike[str], most: int) -> str:
    """The error message for an image of more than ``most`` pixels."""
    return (
        f"{path} claims to be larger than {most:,} pixels. "
        "Scale it down, or drop it if it is not what it claims."
    )


@contextmanager
def naming(path: str | PathLike[str]) -> Iterator[None]:
    """Inside the block, any error becomes a UserError that names the file. A remote file is fetched again."""
    try:
        with forgetting(path):
            yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(missing(path)) from None
    except Image.DecompressionBombError:
        raise UserError(too_large(path, 2 * (Image.MAX_IMAGE_PIXELS or 0))) from None
    except UnidentifiedImageError:
        raise UserError(_unreadable(path)) from None
    except Exception as error:  # for a damaged file, decoders raise more than OSError
        if isinstance(error, OSError) and error.errno:  # raised by the system, not by a decoder
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None
        truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise UserError(
            f"{path} is {'truncated' if truncated else 'damaged'} ({str(error) or type(error).__name__}). "
            f"Fetch it again or drop it."
        ) from error


def is_broken_link(path: str | PathLike[str]) -> bool:
    """Whether a path is a link to a file or folder that does not exist."""
    # Those of Path raise an error in a folder that cannot be read.
    return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114


def missing(path: str | PathLike[str]) -> str:
    """The error message for a path that does not exist, or is a link to one; with a nearly equal path."""
    if is_broken_link(path):
        return f"{path} is a link to {Path(path).readlink()}, which does not exist."
    return f"{path} does not exist.{did_you_mean(path)}"


def _unreadable(path: str | PathLike[str]) -> str:
    """The error message for a file that Pillow cannot identify."""
    if is_empty(path):
        return f"{path} is empty."
    try:
        with Path(path).open("rb") as file:
            start = file.read(12)
    except OSError:  # the image is not from a file
        start = b""
    if start[4:8] == b"ftyp" and start[8:] in _HEIF_BRANDS and _HEIF[0] not in IMAGE_EXTENSIONS:
        return f"{path} is a HEIF image. Pillow reads these with another package: {_GET_HEIF}"
    if start.startswith((b"II", b"MM", b"\x93NUMPY")):  # TIFF and NPY
        return f"{path} is not an image in 8-bit RGB. {BANDS_FIX}"
    return f"{path} is not an image that Pillow can read."
