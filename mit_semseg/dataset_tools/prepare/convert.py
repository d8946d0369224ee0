"""One pair converted: its label written, its image linked, copied, or turned upright."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ...data.files import naming, regular
from ...data.label_files import LabelError, count_values
from ...data.orientation import Fit, fit, orientation_of
from ...data.raster import is_raster, raster_size
from ...errors import UserError
from ..pool import Mark
from .classes import Recoding
from .labels import FixableError, UnknownColorsError
from .release import Assigned, LabelReader, SourcePair
from .staging import Staging

READING_LABEL, READING_IMAGE = 0, 1
"""Marks for the pool: the file that is being read."""

_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}
_LOSSLESS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_JPEG_QUALITY = {"quality": 95, "subsampling": 0}  # of an image that is turned, so encoded again

Counts = tuple[np.ndarray, np.ndarray]
"""Distinct values, ascending, and the number of pixels of each; both (K,) int64."""


def _none() -> Counts:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


@dataclass(frozen=True)
class Conversion:
    """The settings for all pairs, sent to each process once."""

    source: Path
    reader: LabelReader
    recoding: Recoding
    staging: Staging
    link: bool
    upright: bool = False
    """Whether images are also turned whose size does not show which view their label fits."""


@dataclass(frozen=True)
class Converted:
    """What was written for a pair."""

    record: dict[str, Any]
    """Its line in the list."""
    values: Counts
    """Of the label file, before it was recoded."""
    view: Fit
    """The view of the image that its label fits."""
    turned: bool
    """Whether the image was written upright."""
    assigned: Assigned
    """Pixels with other colours than those of the table."""


@dataclass(frozen=True)
class Failure:
    """Why a pair cannot be used."""

    text: str
    """A sentence that names the file."""
    fix: str = ""
    """What can be done, if that is the same for all files of the kind."""
    values: Counts = field(default_factory=_none)
    """Of the label file, if it could be read."""
    colors: Counts = field(default_factory=_none)
    """Colours that the table has not, as numbers."""


class _Pair(NamedTuple):
    size: tuple[int, int]
    """(width, height) of the image as it is written."""
    values: np.ndarray
    suffix: str
    image: Path | bytes
    view: Fit
    turned: bool
    assigned: Assigned


def convert(conversion: Conversion, pair: SourcePair, mark: Mark) -> Converted | Failure:
    """Stages the label and the image of a pair, unless they are there already.

    Raises: UserError if the disk refuses.
    """
    label_path = f"labels/{pair.split}/{pair.name}.png"
    staging = conversion.staging
    try:
        read = _read(conversion, pair, mark)
        values = count_values(read.values)
        bad = conversion.recoding.refused(values[0]).tolist()
        if bad:
            held = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            where = conversion.source / pair.label
            value, belong = ("values", "belong") if len(bad) > 1 else ("value", "belongs")
            return Failure(f"{where} holds the {value} {held}, which {belong} to no class.", values=values)
        image, image_path = read.image, f"images/{pair.split}/{pair.name}{read.suffix}"
        linked = conversion.link and isinstance(image, Path) and staging.link(absolute(image), image_path)
        if isinstance(image, Path) and not linked:
            mark(READING_IMAGE)
            with naming(image):
                image = image.read_bytes()
    except LabelError as error:
        return Failure(error.sentence, error.fix)
    except UnknownColorsError as error:
        return Failure(str(error), colors=error.colors)
    except FixableError as error:
        return Failure(*error.args)
    except UserError as error:
        return Failure(str(error))
    except OSError as error:
        return Failure(f"{conversion.source / pair.label} cannot be read: {error}.")
    buffer = io.BytesIO()
    Image.fromarray(conversion.recoding.apply(read.values)).save(buffer, "PNG")
    staging.write(label_path, buffer.getvalue())
    if isinstance(image, bytes):
        staging.write(image_path, image)
    width, height = read.size
    record = {"fpath_img": image_path, "fpath_segm": label_path, "width": width, "height": height}
    return Converted(record, values, read.view, read.turned, read.assigned)


def absolute(path: str | Path) -> Path:
    """An absolute path that keeps the symbolic links in it."""
    return Path(os.path.abspath(str(path)))  # noqa: PTH100 - resolve() would follow them


def _read(conversion: Conversion, pair: SourcePair, mark: Mark) -> _Pair:
    """Both files of a pair, and which view of the image the label fits."""
    label = regular(conversion.source / pair.label)
    image: Path | bytes
    if pair.image:
        image = regular(conversion.source / pair.image)
        where, suffix = str(image), PurePosixPath(pair.image).suffix
    else:
        image = conversion.reader.embedded(label)
        where, suffix = f"the image in {label}", ""
    mark(READING_IMAGE)
    size, image_format, orientation = _header(image, where)
    mark(READING_LABEL)
    values = conversion.reader.values(label, image)
    assigned = conversion.reader.assigned(label)
    height, width = values.shape
    view = fit(size, (width, height), 1 if conversion.reader.follows_exif else orientation)
    if view is Fit.NEITHER:
        turned = (
            f" (EXIF orientation {orientation}, which neither view of it fits)" if orientation > 1 else ""
        )
        raise UserError(
            f"{label} has {width} x {height} pixels, but its image {where} has {size[0]} x {size[1]}{turned}."
            f" A label must be as large as its image."
        )
    suffix = suffix or _SUFFIXES.get(image_format, f".{image_format.lower()}")
    if view is Fit.UPRIGHT or (view is Fit.UNDECIDED and conversion.upright):
        mark(READING_IMAGE)
        image, suffix = _upright(image, where, suffix)
        return _Pair((width, height), values, suffix, image, view, True, assigned)
    return _Pair(size, values, suffix, image, view, False, assigned)


def _header(image: Path | bytes, where: str) -> tuple[tuple[int, int], str, int]:
    """(width, height) as stored, Pillow's format, and EXIF's orientation. Raises: UserError."""
    try:
        with _opened(image, where) as opened:
            return opened.size, opened.format or "img", orientation_of(opened)
    except UserError:
        if not isinstance(image, Path) or not is_raster(image):
            raise
        return raster_size(image), "TIFF", 1  # with bands that Pillow does not read


def _upright(image: Path | bytes, where: str, suffix: str) -> tuple[bytes, str]:
    """The file of the upright view, and its suffix: without loss if the format allows it."""
    buffer = io.BytesIO()
    with _opened(image, where) as opened:
        turned = ImageOps.exif_transpose(opened)
        profile = {"icc_profile": icc} if (icc := opened.info.get("icc_profile")) else {}
        if suffix.lower() in _JPEG:
            turned.save(buffer, "JPEG", **_JPEG_QUALITY, **profile)
        else:
            suffix = suffix if suffix.lower() in _LOSSLESS else ".png"
            turned.save(buffer, _LOSSLESS[suffix.lower()], **profile)
    return buffer.getvalue(), suffix


@contextmanager
def _opened(image: Path | bytes, where: str) -> Iterator[Image.Image]:
    """An image file, or the content of one, opened by Pillow. Errors in the block name it."""
    if isinstance(image, Path):
        with naming(image), Image.open(image) as opened:
            yield opened
        return
    try:
        with Image.open(io.BytesIO(image)) as opened:
            yield opened
    except UnidentifiedImageError:
        raise UserError(f"{where} is not an image that Pillow can read.") from None
    except Exception as error:  # Pillow's decoders raise errors of many kinds
        raise UserError(f"{where} cannot be read ({error}).") from None
