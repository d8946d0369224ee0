"""Boundary IoU: how well contours are met, whatever the size of what they surround."""

from collections.abc import Callable
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SHARE = 0.02  # of the image's diagonal, the distance up to which a pixel counts as near a contour
_BAND = 256  # rows looked at together, which bounds the memory for images of any height


class BoundaryCounts:
    """Counts of the pixels near the contours of each class, of which Boundary IoU is made.

    A pixel is near a contour if the square of ``2 d + 1`` pixels around it is not all of its own class, where
    d is 2 % of the image's diagonal, rounded, and at least 1. What is beyond the image's border or unlabelled
    is of no class, in the label as in the prediction: a region that is cut off there has a contour there, so
    that a prediction that equals the label wherever there is one scores 1.

    The counts are summed over images before they are divided, as those of the IoU are. They are whole
    numbers, so that the sum is exact in any order.

    Source: Cheng et al. 2021, Boundary IoU: Improving Object-Centric Image Segmentation Evaluation,
    section 4; square, rounding and image borders as in the authors' code.

    Attributes:
        counts: (3, num_class) int64, the pixels near a contour: of the class in both maps, in the label, in
            the prediction.
    """

    def __init__(self, num_class: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((3, num_class), np.int64)

    @property
    def num_class(self) -> int:
        return self.counts.shape[1]

    def update(self, pred: ArrayLike, label: ArrayLike) -> None:
        """Add the pixels of an image.

        Args:
            pred: (H, W) predicted classes, 0 to num_class - 1.
            label: (H, W) true classes; negative ones are unlabelled.

        Raises: ValueError for other shapes.
        """
        pred, label = np.asarray(pred), np.asarray(label)
        if pred.shape != label.shape or pred.ndim != 2:
            raise ValueError(f"pred has shape {pred.shape} and label {label.shape}, but both must be (H, W)")
        known = label >= 0
        distance = contour_distance(*label.shape)
        kind = np.min_scalar_type(self.num_class)
        truth, guess = (
            _near_contour(((values + 1) * known).astype(kind), distance)
            for values in (label, pred.astype(np.int64))
        )
        for row, near in enumerate((np.where(truth == guess, truth, 0), truth, guess)):
            self.counts[row] += np.bincount(near.ravel(), minlength=self.num_class + 1)[1:]

    def iou(self) -> NDArray[np.float64]:
        """Boundary IoU of each class, (num_class,); NaN if in neither label nor prediction."""
        both, truth, guess = self.counts
        union = truth + guess - both
        return np.divide(both, union, out=np.full(len(union), np.nan), where=union > 0)

    def mean_iou(self) -> float:
        """Mean over the classes that occur in label or prediction; NaN if there are none."""
        values = self.iou()
        return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else float("nan")


def contour_distance(height: int, width: int) -> int:
    """How far from a contour pixels of such an image still count as near it, in pixels.

    >>> contour_distance(512, 683)
    17
    """
    return max(1, round(_SHARE * hypot(height, width)))


def _near_contour(classes: NDArray[Any], distance: int) -> NDArray[Any]:
    """``classes``, 0 where a pixel is not near the contour of its own; 0 is no class, as beyond borders."""
    height = len(classes)
    kept = np.empty_like(classes)
    for top in range(0, height, _BAND):
        bottom = min(top + _BAND, height)
        first, last = max(0, top - distance), min(height, bottom + distance)
        above, below = first - (top - distance), bottom + distance - last
        band = np.pad(classes[first:last], ((above, below), (distance, distance)))
        lowest, highest = (_over_squares(band, 2 * distance + 1, pick) for pick in (np.minimum, np.maximum))
        kept[top:bottom] = classes[top:bottom] * (lowest != highest)
    return kept


def _over_squares(values: NDArray[Any], side: int, pick: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """The least or the largest value of each square of ``side`` pixels, (H - side + 1, W - side + 1).

    Along either axis the result on windows of twice the width comes from two of the single one, so that it
    takes a few operations on the whole array for any ``side``.
    """
    for axis in (0, 1):
        length = values.shape[axis] - side + 1
        rows = np.moveaxis(values, axis, 0)
        width = 1
        while 2 * width <= side:
            rows = pick(rows[:-width], rows[width:])
            width *= 2
        values = np.moveaxis(pick(rows[:length], rows[side - width : side - width + length]), 0, axis)
    return values
