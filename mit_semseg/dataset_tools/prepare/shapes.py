"""The shapes that people drew on an image, and the one place that paints them into a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ...data import rle
from ...data.files import naming, regular
from ...data.labels import read_values
from ...data.polygons import fill_polygon
from ...errors import UserError

LATER, SMALLER = "later", "smaller"
"""Which of two shapes has the pixels that both cover."""

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True, slots=True)
class Polygon:
    """An outline, and the holes in it: rings, each (N, 2) of x and y in pixels, see `data.polygons`."""

    rings: tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Mask:
    """Pixels within a box of the image, as COCO's runs (`data.rle`). What is outside is cut off."""

    runs: np.ndarray
    size: Size
    left: int = 0
    top: int = 0

    @staticmethod
    def of(pixels: np.ndarray, left: int = 0, top: int = 0) -> "Mask":
        """The pixels of a (H, W) bool mask whose upper left one is at (left, top)."""
        return Mask(rle.encode(pixels), (pixels.shape[1], pixels.shape[0]), left, top)


@dataclass(frozen=True, slots=True)
class MaskFile:
    """The pixels of a file that have a value."""

    member: str
    """The file's path in the source."""
    value: int | None = None
    """With the value in 24 bits, red + 256 green + 65536 blue. None: all pixels that are not 0 in a mask
    of two values."""


Part = Polygon | Mask | MaskFile


@dataclass(frozen=True, slots=True)
class Shape:
    """What one annotation marks: all pixels of its parts."""

    name: str
    """Of its class."""
    parts: tuple[Part, ...]
    ignored: bool = False
    """Whether its pixels are ignored whatever else covers them, as those of a crowd."""


def paint(
    shapes: Sequence[Shape],
    numbers: Mapping[str, int],
    size: Size,
    *,
    overlap: str = LATER,
    background: int = 0,
    folder: Path = Path(),
) -> np.ndarray:
    """The label of an image, (H, W) uint16.

    Args:
        shapes: in the order in which they lie above each other.
        numbers: k for the name of class k, and 0 for names whose pixels are ignored as those of a crowd.
            Shapes with other names are not painted.
        overlap: "later" - a later shape covers earlier ones; "smaller" - a shape with fewer pixels in the
            image covers larger ones, and of equal ones the later.
        background: value outside of all shapes.
        folder: the source, in which the paths of `MaskFile` begin.

    Raises: UserError for a mask file that cannot be used.
    """
    width, height = size
    painted = []
    for shape in shapes:
        number = 0 if shape.ignored else numbers.get(shape.name)
        if number is not None:
            painted.append((number, *_pixels(shape, size, folder)))
    if overlap == SMALLER:
        painted.sort(key=lambda one: -np.count_nonzero(one[2]))
    painted.sort(key=lambda one: one[0] == 0)  # above all others
    label = np.full((height, width), background, np.uint16)
    for number, box, pixels in painted:
        label[box][pixels] = number
    return label


Box = tuple[slice, slice]


def _pixels(shape: Shape, size: Size, folder: Path) -> tuple[Box, np.ndarray]:
    """The box around a shape and the shape's pixels in it."""
    found = [_of_part(part, size, folder) for part in shape.parts]
    if len(found) == 1:
        return found[0]
    top, left = (min((box[k].start for box, _ in found), default=0) for k in range(2))
    bottom, right = (max((box[k].stop for box, _ in found), default=0) for k in range(2))
    whole = np.zeros((bottom - top, right - left), bool)
    for (rows, columns), pixels in found:
        whole[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= pixels
    return (slice(top, bottom), slice(left, right)), whole


def _of_part(part: Part, size: Size, folder: Path) -> tuple[Box, np.ndarray]:
    width, height = size
    if isinstance(part, Polygon):
        points = np.concatenate(part.rings)
        left, top = (int(x) for x in np.clip(np.floor(points.min(0)), 0, size))
        right, bottom = (int(x) for x in np.clip(np.ceil(points.max(0)), (left, top), size))
        rings = [ring - (left, top) for ring in part.rings]
        box = slice(top, bottom), slice(left, right)
        return box, fill_polygon(rings, bottom - top, right - left)
    if isinstance(part, Mask):
        pixels = rle.decode(part.runs, part.size[1], part.size[0])
        left, top = (
            min(max(first, 0), most) for first, most in zip((part.left, part.top), size, strict=True)
        )
        right = min(max(part.left + part.size[0], left), width)
        bottom = min(max(part.top + part.size[1], top), height)
        inside = pixels[top - part.top : bottom - part.top, left - part.left : right - part.left]
        return (slice(top, bottom), slice(left, right)), inside
    values = _values_of_file(folder / part.member, part.value is not None)
    if values.shape != (height, width):
        raise UserError(
            f"{folder / part.member} has {values.shape[1]} x {values.shape[0]} pixels, but its image has "
            f"{width} x {height}. A mask must be as large as its image."
        )
    return (slice(0, height), slice(0, width)), values == part.value if part.value is not None else values > 0


@lru_cache(maxsize=1)  # the segments of a panoptic label are in one file
def _values_of_file(path: Path, in_24_bits: bool) -> np.ndarray:
    if not in_24_bits:
        values = read_values(path, convert=True, one_channel=True)
        share = share_between(values)
        if share:
            raise UserError(
                f"{path} has {share:.2%} of its pixels between 0 and {values.max()}, so it is not a mask of "
                f"two values. Export it again without soft edges (anti-aliasing)."
            )
        return values
    with naming(path), Image.open(regular(path)) as image:
        red, green, blue = (channel.astype(np.int64) for channel in np.asarray(image.convert("RGB")).T)
        return (red + 256 * green + 65536 * blue).T


def share_between(values: np.ndarray) -> float:
    """The share of a mask's pixels that are neither 0 nor its largest value: soft edges, or more classes."""
    return np.count_nonzero((values > 0) & (values < values.max(initial=0))) / max(1, values.size)


def outside(shape: Shape, size: Size) -> bool:
    """Whether a shape reaches further than a pixel outside of the image, so that a part is cut off."""
    for part in shape.parts:
        if isinstance(part, MaskFile):
            continue
        if isinstance(part, Polygon):
            points = np.concatenate(part.rings)
            low, high = points.min(0) + 1, points.max(0) - 1
        else:
            low = np.array([part.left, part.top])
            high = low + part.size
        if (low < 0).any() or (high > size).any():
            return True
    return False
