"""Expected calibration error: how well predicted probabilities match the accuracy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15
_BITS = 24  # of a probability; float32 has no more for probabilities of 0.5 and above
_AT_ONCE = 2**22  # pixels; keeps the sums of a step exact and its memory small


class Calibration:
    """Counts of labelled pixels by the probability of their predicted class, in 15 bins of equal width.

    A probability on the edge of two bins belongs to the lower one. Probabilities are summed as integer
    multiples of 2^-24, so the sum over images, devices and processes is exact in any order.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 2.

    Attributes:
        counts: (3, 15) int64: all pixels, right pixels, sum of the probabilities in units of 2^-24.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((3, BINS), np.int64)

    def update(self, pred: ArrayLike, confidence: ArrayLike, label: ArrayLike) -> None:
        """Add the pixels of an image.

        Args:
            pred: predicted classes, of any shape.
            confidence: their probabilities, 0 to 1, of the same shape. NaN counts as 0.
            label: true classes of the same shape; negative ones are ignored.

        Raises: ValueError for other shapes.
        """
        pred, confidence, label = np.asarray(pred), np.asarray(confidence), np.asarray(label)
        if not pred.shape == confidence.shape == label.shape:
            raise ValueError(
                f"pred, confidence and label have shapes {pred.shape}, {confidence.shape} and {label.shape}, "
                "but must have the same shape"
            )
        values = pred.ravel(), confidence.ravel(), label.ravel()
        for start in range(0, label.size, _AT_ONCE):
            self._add(*(part[start : start + _AT_ONCE] for part in values))

    def _add(
        self, pred: NDArray[np.integer], confidence: NDArray[np.floating], label: NDArray[np.integer]
    ) -> None:
        known = label >= 0
        shares = np.fmin(np.fmax(confidence[known], 0), 1)
        fixed = np.rint(shares * 2**_BITS).astype(np.int32)
        bins = np.maximum(fixed * BINS - 1, 0) >> _BITS
        right = bins[(pred == label)[known]]
        sums = np.bincount(bins, weights=fixed, minlength=BINS)  # float64, which holds them exactly
        self.counts += [
            np.bincount(bins, minlength=BINS),
            np.bincount(right, minlength=BINS),
            sums.astype(np.int64),
        ]

    def error(self) -> float:
        """Mean gap between accuracy and probability of the bins, weighted by pixels; NaN without any."""
        pixels, right, sums = self.counts
        total = int(pixels.sum())
        return int(np.abs((right << _BITS) - sums).sum()) / (total << _BITS) if total else float("nan")

    def bins(self) -> list[dict[str, float]]:
        """The bins in ascending order.

        Each has its ``low`` and ``high`` end, its ``pixels``, and their ``accuracy`` and mean ``confidence``,
        which are NaN for a bin without pixels.
        """
        ends = np.arange(BINS + 1) / BINS
        pixels, right, sums = self.counts
        columns = {
            "low": ends[:-1],
            "high": ends[1:],
            "pixels": pixels,
            "accuracy": _divide(right, pixels),
            "confidence": _divide(sums, pixels << _BITS),
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]


def _divide(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)
