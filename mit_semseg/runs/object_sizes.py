"""How well objects of each size are found, measured on the pictures that an evaluation wrote."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

SIDES = (0, 4, 8, 16, 32, 64, 128)
"""The lower limits of the size classes: sides in pixels of a square with the area of the object."""

_MOST = 500  # pictures that are measured
_FOUND = 0.5  # share of its pixels with which an object counts as found


@dataclass(frozen=True)
class SizeClass:
    """The objects of one size.

    Attributes:
        low: the lower limit, see `SIDES`.
        objects: their number.
        found: the share of them of which at least half the pixels have the right class.
        recall: the mean share of an object's pixels with the right class.
    """

    low: int
    objects: int
    found: float
    recall: float


def object_sizes(pictures: list[Path]) -> list[SizeClass]:
    """The sizes that occur, from the smallest. An object is a connected region of one class in the truth.

    Args:
        pictures: of image | truth | prediction, as ``VAL.visualize`` writes them. Black is unlabelled.
    """
    areas, recalls = [], []
    for area, recall in (found for path in pictures[:_MOST] for found in _objects(path)):
        areas.append(area)
        recalls.append(recall)
    sides, shares = np.sqrt(np.array(areas, float)), np.array(recalls, float)
    bins = np.searchsorted(SIDES, sides, side="right") - 1
    return [
        SizeClass(
            low,
            int((bins == k).sum()),
            float((shares[bins == k] >= _FOUND).mean()),
            float(shares[bins == k].mean()),
        )
        for k, low in enumerate(SIDES)
        if (bins == k).any()
    ]


def _objects(path: Path) -> Iterator[tuple[int, float]]:
    """Area and recall of each object in a picture."""
    from scipy import ndimage

    try:
        with PIL.Image.open(path) as picture:
            strip = np.asarray(picture.convert("RGB")).astype(np.int32)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return
    width = strip.shape[1] // 3
    codes = strip @ np.array([2**16, 2**8, 1])
    truth, prediction = codes[:, width : 2 * width], codes[:, 2 * width : 3 * width]
    for code in np.unique(truth[truth > 0]):
        regions: NDArray[np.int32]
        regions, count = ndimage.label(truth == code, structure=np.ones((3, 3)))
        area = np.bincount(regions.ravel(), minlength=count + 1)[1:]
        right = np.bincount(regions[prediction == code].ravel(), minlength=count + 1)[1:]
        yield from zip(area.tolist(), (right / area).tolist(), strict=True)
