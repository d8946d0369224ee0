"""The files of a dataset: where they are, and their names in what goes wrong with them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import UserError

IMAGE_EXTENSIONS = (
    *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)


VIDEO_EXTENSIONS = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"),
    *(".ts", ".webm", ".wmv"),
)


def is_image(path: str | PathLike[str]) -> bool:
    """Whether a file is an image by its extension, in any case."""
    return Path(path).suffix.lower() in IMAGE_EXTENSIONS


def is_video(path: str | PathLike[str]) -> bool:
    """Whether a file is a video by its extension, in any case."""
    return Path(path).suffix.lower() in VIDEO_EXTENSIONS


def find_recursive(root_dir: str | PathLike[str], ext: str = ".jpg") -> list[str]:
    """The files in a folder and all below it whose names end with ``ext``, in any case; sorted."""
    return [file for file in files_below(root_dir) if file.lower().endswith(ext.lower())]


def files_below(root: str | PathLike[str]) -> list[str]:
    """All files in a folder and below it, sorted; hidden ones do not count."""
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [str(Path(folder, name)) for name in names if not name.startswith(".")]
    return sorted(files)


def regular(path: str | PathLike[str]) -> Path:
    """The path itself. Raises: UserError for a pipe or a device, which may never end, or never begin."""
    if Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        raise UserError(f"{path} is no file but a pipe or a device. Drop it from the list.")
    return Path(path)


@contextmanager
def naming(path: str | PathLike[str]) -> Iterator[None]:
    """Turns whatever goes wrong with a file into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{path} claims to be larger than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels. "
            f"Scale it down, or drop it if it is not what it claims."
        ) from None
    except UnidentifiedImageError:
        empty = Path(path).stat().st_size == 0
        raise UserError(f"{path} is {'empty' if empty else 'not an image that Pillow can read'}.") from None
    except Exception as error:  # what a decoder raises for a damaged file is not limited to OSError
        if isinstance(error, OSError) and error.errno:  # the system's, not a decoder's
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None
        truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise UserError(
            f"{path} is {'truncated' if truncated else 'damaged'} ({str(error) or type(error).__name__}). "
            f"Fetch it again or drop it."
        ) from error
