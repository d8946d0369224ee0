"""Images and labels from files: any mode that Pillow opens; every failure comes with the file's name."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError

IMAGE_EXTENSIONS = (
    *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB values from 0 to 1, with which the encoders were trained
STD = (0.229, 0.224, 0.225)

_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # "I" is what Pillow makes of some 16-bit formats
_GRAY_STEP = {"L;2": 85, "L;4": 17}  # Pillow spreads 2- and 4-bit gray over 0 to 255


def open_image(path: str | PathLike[str], *, upright: bool = False) -> Image.Image:
    """An image file as 8-bit RGB.

    Transparency is dropped, not blended with a background, as when the published models were trained. 16-bit
    gray is scaled, not clipped. An animation or a TIFF of several pages gives its first.

    Args:
        upright: turn the image as its EXIF orientation says. Only for images without a label, because labels
            are drawn on the pixels as they are stored.

    Raises: UserError, with the file's name, if it cannot be opened and decoded.
    """
    with _naming(path), Image.open(path) as image:
        image.load()
        turned = ImageOps.exif_transpose(image) if upright else image
        if turned.mode == "RGB":
            return turned
        if turned.mode in _16_BIT:
            return _from_16_bit(turned, path).convert("RGB")
        if turned.mode == "F":
            raise UserError(
                f"{path} holds floating-point values of unknown range. Save it with 8 or 16 bits."
            )
        if "transparency" in turned.info:  # converted straight to RGB, Pillow warns about it
            turned = turned.convert("RGBA")
        return turned.convert("RGB")


def open_label(path: str | PathLike[str], num_class: int | None = None) -> Image.Image:
    """A label file as an 8-bit image of mode "L": 0 is unlabelled, k is class k-1.

    Palette images give their indices, whatever their colours; 1-bit images 0 and 1.

    Args:
        num_class: refuse values above it. None: any value passes.

    Raises: UserError, with the file's name, if it cannot be decoded, is no 8-bit index image, or holds a
        value above ``num_class``.
    """
    with _naming(path), Image.open(path) as image:
        packing = image.tile[0].args if image.tile else None
        image.load()
        if image.mode not in ("L", "P", "1"):
            colours = " Turn its colours into class numbers first." if image.mode.startswith("RGB") else ""
            raise UserError(
                f"{path} is a label of mode {image.mode}; it must be an 8-bit gray or palette image "
                f"whose values are class numbers (0 unlabelled, 1 the first class).{colours}"
            )
        values = np.array(image, np.uint8)
    if packing in _GRAY_STEP:
        values //= _GRAY_STEP[packing]
    largest = int(values.max())
    if num_class is not None and largest > num_class:
        ignored = " If 255 stands for unlabelled, write 0 in its place." if largest == 255 else ""
        raise UserError(
            f"{path} holds the value {largest}, but with {num_class} classes (DATASET.num_class) "
            f"a label goes from 0 (unlabelled) to {num_class}.{ignored}"
        )
    return Image.fromarray(values)


def open_pair(
    image_path: str | PathLike[str], label_path: str | PathLike[str], num_class: int | None = None
) -> tuple[Image.Image, Image.Image]:
    """An image and its label, of one size.

    Raises: UserError as open_image and open_label do, and if the sizes differ.
    """
    image, label = open_image(image_path), open_label(label_path, num_class)
    if image.size != label.size:
        raise UserError(
            f"{label_path} is {label.width} x {label.height} pixels, "
            f"but its image {image_path} is {image.width} x {image.height}."
        )
    return image, label


def normalize(image: Image.Image, out: torch.Tensor | None = None) -> torch.Tensor:
    """An RGB image as the encoders want it: values from 0 to 1, minus MEAN, by STD; (3, H, W) float32.

    Args:
        out: written to and returned, if given; (3, H, W) float32, may be part of a larger tensor.
    """
    if out is None:
        out = torch.empty(3, image.height, image.width)
    # Pillow splits an image into planes faster than numpy transposes it; then one product and one sum remain.
    for plane, mean, std, values in zip(image.split(), MEAN, STD, out.numpy(), strict=True):
        np.multiply(np.asarray(plane), np.float32(1 / (255 * std)), out=values)
        values -= np.float32(mean / std)
    return out


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


def _from_16_bit(image: Image.Image, path: str | PathLike[str]) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UserError(
            f"{path} holds values from {values.min()} to {values.max()}, more than 16 bits. "
            f"Save it with 8 or 16 bits."
        )
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


@contextmanager
def _naming(path: str | PathLike[str]) -> Iterator[None]:
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
