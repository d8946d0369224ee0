"""Precision and recall of one of two classes by the threshold of its probability, and the best threshold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEPS = 1000  # thresholds are multiples of 1/1000


class OperatingPoint(NamedTuple):
    """How the second class is found if its pixels are those of at least this probability."""

    threshold: float
    precision: float
    """NaN if no pixel has that probability."""
    recall: float
    """NaN if no pixel is of the class."""
    f1: float
    """Harmonic mean of both; NaN if neither exists."""


class PrecisionRecall:
    """Counts of labelled pixels by their class, of two, and the probability of the second class.

    Counts are integers, so they add up to the same curve however the pixels were divided.

    Attributes:
        counts: (2, 1001) int64; row: true class, column k: probability from k/1000 to below (k+1)/1000.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((2, STEPS + 1), np.int64)

    def update(self, pred: ArrayLike, confidence: ArrayLike, label: ArrayLike) -> None:
        """Add the pixels of an image.

        Args:
            pred: predicted classes, 0 or 1, of any shape.
            confidence: their probabilities, 0 to 1, of the same shape.
            label: true classes of the same shape; negative ones are ignored.
        """
        pred, confidence, label = np.asarray(pred), np.asarray(confidence), np.asarray(label)
        known = label >= 0
        chosen = confidence[known].astype(np.float64)
        probability = np.where(pred[known] == 1, chosen, 1 - chosen)
        # The margin is below the resolution of float32, which may store k/1000 as slightly less.
        columns = np.clip(np.floor(probability * STEPS + 1e-4), 0, STEPS).astype(np.int64)
        cells = label[known].astype(np.int64) * (STEPS + 1) + columns
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    def curve(self) -> list[OperatingPoint]:
        """The operating points of the thresholds 1/1000 to 999/1000, in ascending order."""
        false, right = self.counts[:, ::-1].cumsum(1)[:, ::-1]  # column k: pixels of at least k/1000
        total = right[0]
        with np.errstate(invalid="ignore"):
            columns = right / (right + false), right / total, 2 * right / (right + false + total)
        return [OperatingPoint(k / STEPS, *(float(column[k]) for column in columns)) for k in range(1, STEPS)]

    def best(self) -> OperatingPoint | None:
        """The point with the highest F1; of equal ones, the nearest to 0.5. None if no pixel is of the class.

        F1 is also known as Dice, and grows with the IoU.
        """
        if not self.counts[1].any():
            return None
        return max(self.curve(), key=lambda point: (point.f1, -abs(point.threshold - 0.5)))
