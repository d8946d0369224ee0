"""One example: its label written, its image linked or copied."""

import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...atomic import replacing, unwritable
from ...errors import UserError
from ..files import naming
from .recoding import Recoding
from .release import Example, Reader
from .source import Source


@dataclass(frozen=True)
class Job:
    """What is the same for all examples; sent to each process once."""

    source: Source
    reader: Reader
    recoding: Recoding
    out: Path
    link: bool


@dataclass(frozen=True)
class Done:
    """What became of an example: a line for its list, or a problem."""

    example: Example
    record: dict[str, Any] | None = None
    pixels: np.ndarray | None = None
    """Of each label value, (256,) int64."""
    problem: str = ""


def convert(job: Job, example: Example) -> Done:
    """Writes the label and the image of an example, unless they are there already.

    Returns: also for files that cannot be used, with what is wrong with them.
    Raises: UserError if the disk refuses.
    """
    try:
        with job.source.local(example.label) as label_path:
            data: bytes | None = None
            if example.image:
                with job.source.local(example.image) as image_file:
                    size, labels = _read(job, example, label_path, image_file)
                    if not job.source.linkable:
                        data = image_file.read_bytes()
                suffix = PurePosixPath(example.image).suffix
            else:
                data = job.reader.embedded(label_path)
                size, labels = _read(job, example, label_path, data)
                suffix = _suffix(data)
    except UserError as error:
        return Done(example, problem=str(error))
    except OSError as error:
        return Done(example, problem=f"{job.source.where(example.label)} cannot be read: {error}.")

    image_path, segm_path = f"images/{example.split}/{example.name}{suffix}", label_file(example)
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    write(job.out / segm_path, buffer.getvalue())
    target = job.out / image_path
    if data is not None:
        write(target, data)
    else:
        with job.source.local(example.image) as image_file:
            place(absolute(image_file), target, link=job.link)
    width, height = size
    record = {"fpath_img": image_path, "fpath_segm": segm_path, "width": width, "height": height}
    return Done(example, record, np.bincount(labels.ravel(), minlength=256))


def label_file(example: Example) -> str:
    """Where the label of an example is written, relative to the dataset's folder."""
    return f"labels/{example.split}/{example.name}.png"


def _read(job: Job, example: Example, label: Path, image: Path | bytes) -> tuple[tuple[int, int], np.ndarray]:
    """The image's (width, height) and its labels, which are as large."""
    where = job.source.where(example.label)
    image_where = job.source.where(example.image) if example.image else f"the image in {where}"
    size = image_size(image, image_where)
    values = job.reader.values(label, image)
    height, width = values.shape
    if (width, height) != size:
        raise UserError(
            f"{where} has {width} x {height} pixels, but its image {image_where} has {size[0]} x {size[1]}. "
            f"A label is as large as its image."
        )
    return size, job.recoding.apply(values, where)


def image_size(image: Path | bytes, where: str) -> tuple[int, int]:
    """(width, height) as stored, read from the file's first bytes. Raises: UserError."""
    if isinstance(image, bytes):
        try:
            with Image.open(io.BytesIO(image)) as opened:
                return opened.size
        except UnidentifiedImageError:
            raise UserError(f"{where} is not an image that Pillow can read.") from None
        except Exception as error:  # Pillow's decoders raise errors of many kinds
            raise UserError(f"{where} cannot be read ({error}).") from None
    with naming(image), Image.open(image) as opened:
        return opened.size


def _suffix(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as image:
        return {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}.get(
            image.format or "", f".{(image.format or 'img').lower()}"
        )


def absolute(path: str | Path) -> Path:
    """A path from the root, through the links that the user went through."""
    return Path(os.path.abspath(str(path)))  # noqa: PTH100 - resolve() would follow them


def write(path: Path, data: bytes) -> None:
    """A file with these bytes; left alone if it is one already. Raises: UserError if the disk refuses."""
    try:
        known = not path.is_symlink() and path.is_file() and path.stat().st_size == len(data)
        if known and path.read_bytes() == data:
            return
    except OSError:
        pass  # what cannot be read is written anew
    with replacing(path) as file:
        file.write(data)


def place(image: Path, target: Path, *, link: bool) -> None:
    """The image at ``target``: a link to it, or a copy where links are not wanted or cannot be made."""
    try:
        if link:
            if target.is_symlink() and os.readlink(target) == str(image):  # noqa: PTH115 - compared as written
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            if _linked(image, target):
                return
        if not target.is_symlink() and target.is_file() and _same(image, target):
            return
    except OSError as error:
        raise unwritable(target, error) from error
    with image.open("rb") as original, replacing(target) as copy:
        shutil.copyfileobj(original, copy, 2**20)


def _linked(image: Path, target: Path) -> bool:
    part = target.with_name(f".{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.symlink_to(image)
        part.replace(target)
    except (OSError, NotImplementedError):  # no such thing on this file system, or not for this user
        return False
    return True


def _same(image: Path, target: Path) -> bool:
    if image.stat().st_size != target.stat().st_size:
        return False
    with image.open("rb") as one, target.open("rb") as other:
        while True:
            chunk = one.read(2**20)
            if chunk != other.read(2**20):
                return False
            if not chunk:
                return True
