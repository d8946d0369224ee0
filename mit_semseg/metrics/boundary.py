"""Boundary IoU: how well predicted contours match, for regions of any size."""

from collections.abc import Callable
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SHARE = 0.02  # of the image's diagonal: largest distance of a pixel near a contour
_BAND = 256  # rows to process at once; bounds the memory for images of any height


class BoundaryCounts:
    """Counts of the pixels near the contours of each class, which determine Boundary IoU.

    A pixel is near a contour if the square of side ``2 d + 1`` around it contains a pixel that is not of its
    class. d is 2 % of the image's diagonal, rounded, and at least 1 pixel. Pixels beyond the image's border
    and unlabelled pixels have no class, both in the label and in the prediction. Regions therefore have
    contours at both, and a prediction that equals the label at every labelled pixel scores 1.

    As for the IoU, counts are summed over images before the division. They are integers, so the sum is exact
    in any order.

    Source: Cheng et al. 2021, Boundary IoU: Improving Object-Centric Image Segmentation Evaluation,
    section 4; square, rounding and image borders as in the authors' code.

    Attributes:
        counts: (3, num_class) int64, the pixels near a contour of the class: in both maps, in the label, in
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
        """Boundary IoU of each class, (num_class,); NaN for a class in neither label nor prediction."""
        both, truth, guess = self.counts
        union = truth + guess - both
        return np.divide(both, union, out=np.full(len(union), np.nan), where=union > 0)

    def mean_iou(self) -> float:
        """Mean over the classes that occur in label or prediction; NaN if there are none."""
        values = self.iou()
        return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else float("nan")


def contour_distance(height: int, width: int) -> int:
    """The largest distance of a pixel near a contour, in pixels, for an image of this size.

    >>> contour_distance(512, 683)
    17
    """
    return max(1, round(_SHARE * hypot(height, width)))


def _near_contour(classes: NDArray[Any], distance: int) -> NDArray[Any]:
    """``classes``, but 0 where a pixel is not near a contour of its class; 0 means no class."""
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
    """The minimum or maximum over each square of ``side`` pixels, (H - side + 1, W - side + 1).

    Along each axis, two results for windows of one width give the result for windows of twice that width. Any
    ``side`` thus takes only a few operations on the whole array.
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
