"""A prediction as the shapes that labelling tools import: masks without loss, or polygons."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageDraw import Draw

from ...data.polygons import fill_polygon
from .outlines import Place, inside_pixels, outlines, pixel_corners


@dataclass(frozen=True)
class Area:
    """The pixels of a class in an image, or a connected part of them.

    Attributes:
        k: the class.
        left, top: of the box around it, in pixels.
        pixels: (h, w) bool, those of the box.
        ring: (N, 2) of x and y in pixels of the image: its outline. None: it is a mask.
    """

    k: int
    left: int
    top: int
    pixels: NDArray[np.bool_]
    ring: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Drawing:
    """How a tool draws polygons.

    Attributes:
        place: where the corners of an outline are.
        fill: the pixels of a ring in an image of a height and width, (H, W) bool.
    """

    place: Place
    fill: Callable[[np.ndarray, int, int], np.ndarray]


def _fill_with_outline(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    canvas = Image.new("1", (width, height))
    Draw(canvas).polygon([(x, y) for x, y in ring.tolist()], fill=1, outline=1)
    return np.asarray(canvas)


BY_CENTERS = Drawing(pixel_corners, lambda ring, height, width: fill_polygon([ring], height, width))
"""A pixel is filled if its centre is inside."""
WITH_OUTLINE = Drawing(inside_pixels, _fill_with_outline)
"""So is one through which the outline runs, as LabelMe does."""


class Cost:
    """How far polygons differ from the masks of which they were made, over many images."""

    def __init__(self, num_class: int) -> None:
        self.shared = np.zeros(num_class, np.int64)
        """Pixels of both, by class."""
        self.all = np.zeros(num_class, np.int64)
        """Pixels of at least one."""

    def add(self, other: "Cost") -> None:
        self.shared += other.shared
        self.all += other.all

    def iou(self) -> float:
        """The mean over the classes that occur of shared pixels / all pixels, each summed over the images."""
        occurs = self.all > 0
        return float((self.shared[occurs] / self.all[occurs]).mean()) if occurs.any() else 1.0


class Shapes:
    """The shapes of predictions for labelling tools.

    Args:
        num_class: number of classes.
        simplify: None for masks, without loss; else polygons, see `polygons_of`.

    Attributes:
        costs: of the polygons, by tool.
    """

    def __init__(self, num_class: int, simplify: float | None = None) -> None:
        self._num_class, self._simplify = num_class, simplify
        self.costs: dict[str, Cost] = {}

    def of(self, tool: str, labels: NDArray[np.integer]) -> Iterable[Area]:
        """The shapes of a label map (H, W) as the tool draws them. Raises: UserError if OpenCV is missing."""
        if self._simplify is None:
            return masks_of(labels)
        drawing = WITH_OUTLINE if tool == "labelme" else BY_CENTERS
        cost = self.costs.setdefault(tool, Cost(self._num_class))
        return polygons_of(labels, self._simplify, drawing, cost)


def masks_of(labels: NDArray[np.integer]) -> Iterator[Area]:
    """Each class that occurs in a label map (H, W) as a mask; the largest one first."""
    for k, (rows, columns) in _boxes(labels):
        yield Area(k, columns.start, rows.start, labels[rows, columns] == k)


def polygons_of(labels: NDArray[np.integer], simplify: float, drawing: Drawing, cost: Cost) -> list[Area]:
    """Each connected part of each class as a polygon; the largest class first.

    Parts of which fewer than three corners remain are omitted, unless no part of the image would be left.

    Args:
        simplify: in pixels, see `outlines`; 0 without loss.
        cost: to which these polygons are added.
    """
    found = []
    lost = Cost(len(cost.all))
    for k, (rows, columns) in _boxes(labels):
        mask = labels[rows, columns] == k
        drawn = np.zeros(labels.shape, bool)
        for ring in outlines(mask, simplify, drawing.place):
            part = ring + np.array([columns.start, rows.start])
            area = _of_ring(k, part, drawing, labels.shape)
            _add(drawn, area)
            found.append(area)
        whole = labels == k
        lost.shared[k] = np.count_nonzero(drawn & whole)
        lost.all[k] = np.count_nonzero(drawn | whole)
    if not found and simplify and (labels >= 0).any():
        return polygons_of(labels, 0, drawing, cost)
    cost.add(lost)
    return found


def _add(drawn: np.ndarray, area: Area) -> None:
    height, width = area.pixels.shape
    drawn[area.top : area.top + height, area.left : area.left + width] |= area.pixels


def _of_ring(k: int, ring: np.ndarray, drawing: Drawing, size: Sequence[int]) -> Area:
    left, top = np.floor(ring.min(0)).astype(int).clip(0).tolist()
    right, bottom = (np.floor(ring.max(0)).astype(int) + 1).clip(max=(size[1], size[0])).tolist()
    pixels = drawing.fill(ring - (left, top), bottom - top, right - left)
    return Area(k, left, top, pixels, ring)


def _boxes(labels: NDArray[np.integer]) -> list[tuple[int, tuple[slice, slice]]]:
    """Each class that occurs with the box around its pixels; the one with the most pixels first."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)  # negative: no data
    boxes = []
    for k in classes[np.argsort(-counts, kind="stable")].tolist():
        mask = labels == k
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append(
            (k, (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)))
        )
    return boxes
