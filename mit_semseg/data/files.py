"""The files of a dataset: where they are, and their names in what goes wrong with them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import UserError

IMAGE_EXTENSIONS = (
    *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)


def find_images(paths: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[str]:
    """The images that a user names: files as given, folders searched with all below them and sorted.

    In folders, files count by the common extensions in any case; hidden ones do not count. A file named twice
    comes once.

    Raises: UserError if a path does not exist or nothing is found.
    """
    named = [paths] if isinstance(paths, str | PathLike) else list(paths)
    found: list[str] = []
    for path in [fspath(path) for path in named]:
        if Path(path).is_dir():
            found += (file for file in _files_below(path) if Path(file).suffix.lower() in IMAGE_EXTENSIONS)
        elif Path(path).exists():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist. Name an image or a folder of images.")
    if not found:
        raise UserError(
            f"No image in {', '.join(map(str, named)) or 'an empty list of paths'}. "
            f"Files with these extensions count: {' '.join(IMAGE_EXTENSIONS)}."
        )
    return list(dict.fromkeys(found))


def find_recursive(root_dir: str | PathLike[str], ext: str = ".jpg") -> list[str]:
    """The files in a folder and all below it whose names end with ``ext``, in any case; sorted."""
    return [file for file in _files_below(root_dir) if file.lower().endswith(ext.lower())]


def _files_below(root: str | PathLike[str]) -> list[str]:
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
