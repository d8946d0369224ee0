"""The outlines of a mask as polygons, with OpenCV. Holes become part of the outline, through a slit.

The formats of labelling tools have no holes in a polygon. A slit of no width leads from each hole to the
outline, so a polygon is one ring. By the even-odd rule and by the nonzero rule, a hole is outside.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...export.opened import require

Place = Callable[[np.ndarray], np.ndarray]


def pixel_corners(steps: np.ndarray) -> np.ndarray:
    """Points on the corners of pixels, counted from the upper left corner of the image.

    For tools that fill the pixels whose centres are inside. The mask is that polygon, without loss.
    """
    return (steps + 1) // 2


def inside_pixels(steps: np.ndarray) -> np.ndarray:
    """Points a quarter of a pixel inside of the mask, counted likewise.

    For tools that also fill the pixels through which the outline runs, as LabelMe does with Pillow.
    """
    return (steps + 0.5) / 2


def opencv() -> Any:
    """The module cv2. Raises: UserError with the command that installs it, if it is missing."""
    return require("cv2", "--simplify", "opencv-python-headless")


def outlines(mask: np.ndarray, simplify: float, place: Place = pixel_corners) -> Iterator[np.ndarray]:
    """A ring, (N, 2) of x and y in pixels, for each connected part of a mask (H, W) bool.

    Args:
        simplify: largest distance in pixels between the outline and its simpler form; 0 keeps it. Parts and
            holes of which fewer than three points remain are omitted.
        place: `pixel_corners` or `inside_pixels`.

    Raises: UserError if OpenCV is missing.
    Source: Suzuki & Abe 1985 (finding contours), Douglas & Peucker 1973 (simplifying).
    """
    cv2 = opencv()
    # OpenCV's contours run through the centres of pixels. With four pixels for each, they run through a
    # quarter of each border pixel, which shows on which of its sides the border is.
    double = np.pad(mask, 1).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    contours, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_simpler(cv2, place(contour[:, 0] - 2), simplify) for contour in contours]
    for number, ring in enumerate(rings):
        _, _, hole, parent = hierarchy[0][number]
        if parent >= 0 or len(ring) < 3:
            continue
        holes = []
        while hole >= 0:
            holes.append(rings[hole])
            hole = hierarchy[0][hole][0]
        yield np.round(_joined(ring, [one for one in holes if len(one) >= 3]), 2)


def _simpler(cv2: Any, ring: np.ndarray, simplify: float) -> np.ndarray:
    if simplify:
        ring = cv2.approxPolyDP(ring.astype(np.float32), simplify, True)[:, 0]
    ring = ring[(ring != np.roll(ring, 1, 0)).any(1)]
    one, two = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    straight = (one[:, 0] * two[:, 1] == one[:, 1] * two[:, 0]) & ((one * two).sum(1) > 0)
    return ring[~straight].astype(np.float64)


def _joined(ring: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """A ring with its holes, from the left: a slit leads from the leftmost point of each to the ring."""
    for hole in sorted(holes, key=lambda one: one[:, 0].min()):
        hole = np.roll(hole, -int(hole[:, 0].argmin()), 0)
        x, y = hole[0]
        end = np.roll(ring, -1, 0)
        low, high = np.minimum(ring[:, 1], end[:, 1]), np.maximum(ring[:, 1], end[:, 1])
        edges = np.flatnonzero((low <= y) & (y <= high) & (low < high))
        share = (y - ring[edges, 1]) / (end[edges, 1] - ring[edges, 1])
        crossing = ring[edges, 0] + share * (end[edges, 0] - ring[edges, 0])
        left = np.flatnonzero(crossing <= x)
        if not len(left):
            continue  # simplified, the hole is no longer inside
        nearest = left[crossing[left].argmax()]
        point, at = np.array([[crossing[nearest], y]]), int(edges[nearest]) + 1
        ring = np.concatenate([ring[:at], point, hole, hole[:1], point, ring[at:]])
    return ring
