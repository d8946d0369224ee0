"""Polygons as pixels. The pixel in row i and column j is the square from (j, i) to (j + 1, i + 1).

A pixel belongs to a polygon if its centre is inside, by the even-odd rule: a line from the centre to infinity
crosses the outline an odd number of times. So rings within a ring are holes, what an outline surrounds twice
is outside, and of two polygons that share an edge, only one has each pixel.
"""

from collections.abc import Sequence

import numpy as np

_BLOCK = 2**20  # pairs of edges compared at a time


def fill_polygon(rings: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """The pixels inside of rings, (H, W) bool. What is outside of the image is cut off.

    Args:
        rings: outlines and holes, each (N, 2) of x and y in pixels, without the first point at the end.

    >>> square = np.array([(1, 1), (4, 1), (4, 3), (1, 3)])
    >>> fill_polygon([square], 4, 5).astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    start = np.concatenate(list(rings)).astype(np.float64)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]).astype(np.float64)
    upper, lower = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    # The rows whose centres an edge passes: i with upper <= i + 0.5 < lower.
    first = np.ceil(np.clip(upper - 0.5, 0, height)).astype(np.int64)
    count = np.ceil(np.clip(lower - 0.5, 0, height)).astype(np.int64) - first
    edge = np.repeat(np.arange(len(start)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    x = start[edge, 0] + slope * (row + 0.5 - start[edge, 1])
    # The first pixel whose centre is not left of the crossing; all pixels from there on are beyond it.
    column = np.ceil(np.clip(x - 0.5, 0, width)).astype(np.int64)
    crossings = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    return np.cumsum(crossings.reshape(height, width + 1), axis=1)[:, :-1] % 2 == 1


def crosses_itself(ring: np.ndarray) -> bool:
    """Whether two edges of a ring, (N, 2), cross. Edges that only touch do not count."""
    start, end = np.asarray(ring, np.float64), np.roll(ring, -1, axis=0).astype(np.float64)
    number = len(start)
    step = max(1, _BLOCK // max(1, number))
    for k in range(0, number, step):
        one, two = start[k : k + step, None], end[k : k + step, None]
        # Each edge has the ends of the other on different sides.
        apart = (_side(one, two, start) * _side(one, two, end) < 0) & (
            _side(start, end, one) * _side(start, end, two) < 0
        )
        if apart.any():
            return True
    return False


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> np.ndarray:
    """The outline of an ellipse as a ring, (N, 2), turned clockwise around its centre.

    It has so many points that no pixel's side lies between it and the ellipse.
    """
    number = int(np.clip(8 * np.sqrt(max(radius_x, radius_y, 1)), 32, 1024))
    angle = np.arange(number) * (2 * np.pi / number)
    points = np.stack([radius_x * np.cos(angle), radius_y * np.sin(angle)], axis=1)
    return turned(points, degrees) + np.array([x, y])


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """The outline of a rectangle as a ring, (4, 2)."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def turned(points: np.ndarray, degrees: float, around: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Points, (N, 2), turned clockwise as seen in an image, whose y goes down."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points - around) @ matrix + around


def _side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The side of the line from ``start`` to ``end`` on which a point is: its sign, or 0 on the line."""
    along, to = end - start, point - start
    return np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])
