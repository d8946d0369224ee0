"""The ground that windows of scenes show, and windows of one list that show ground of another."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...data.scene_pairs import Region, name_of
from ...data.scenes import Raster

_TOUCH = 0.01  # of a window's side; coordinates are rounded, so windows side by side may overlap by less


class Ground(NamedTuple):
    """A rectangle of the ground.

    Attributes:
        system: the reference system; "" if the file has no coordinates, or is turned.
        box: left, bottom, right, top in units of the system; without a system, pixels of the file.
    """

    system: str
    box: tuple[float, float, float, float]


def ground_of(raster: Raster, region: Region) -> Ground:
    """The ground that a window of a scene shows."""
    (top, bottom), (left, right) = region
    transform = raster.transform
    if not raster.georeferenced or transform.b or transform.d:
        return Ground("", (left, top, right, bottom))
    (x0, y0), (x1, y1) = transform * (left, top), transform * (right, bottom)
    return Ground(name_of(raster), (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))


def overlaps(
    boxes: np.ndarray, systems: np.ndarray, others: np.ndarray, other_systems: np.ndarray
) -> Iterator[tuple[int, int, float]]:
    """For each box that overlaps others: its position, that of the one that covers most, and the share.

    Args:
        boxes, others: left, bottom, right, top, (N, 4) and (M, 4).
        systems, other_systems: numbers of their systems, (N,) and (M,); boxes of two never overlap, and one
            of -1 overlaps none.
    """
    for system in np.intersect1d(systems[systems >= 0], other_systems):
        ours, theirs = np.flatnonzero(systems == system), np.flatnonzero(other_systems == system)
        theirs = theirs[np.argsort(others[theirs, 0], kind="stable")]
        sorted_boxes = others[theirs]
        widest = float((sorted_boxes[:, 2] - sorted_boxes[:, 0]).max())
        for row in ours.tolist():
            left, bottom, right, top = boxes[row].tolist()
            near = slice(*np.searchsorted(sorted_boxes[:, 0], (left - widest, right)).tolist())
            some = sorted_boxes[near]
            width = np.minimum(some[:, 2], right) - np.maximum(some[:, 0], left)
            height = np.minimum(some[:, 3], top) - np.maximum(some[:, 1], bottom)
            shares = (width > _TOUCH * (right - left)) & (height > _TOUCH * (top - bottom))
            area = np.where(shares, width * height, 0)
            if area.any():
                most = int(area.argmax())
                yield row, int(theirs[near][most]), float(area[most] / ((right - left) * (top - bottom)))
