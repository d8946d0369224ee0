"""The integer confusion matrix and the scores computed from it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class ConfusionMatrix:
    """Counts of pixels by true and predicted class.

    The counts are integers, so sums over images, devices and processes are exact in any order.

    Attributes:
        counts: (num_class, num_class) int64; row: true class, column: predicted class.
    """

    def __init__(self, num_class: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((num_class, num_class), np.int64)

    @property
    def num_class(self) -> int:
        return len(self.counts)

    def update(self, pred: ArrayLike, label: ArrayLike) -> None:
        """Add the pixels of an image.

        Args:
            pred: predicted classes, 0 to num_class - 1, of any shape.
            label: true classes of the same shape; negative ones are ignored.

        Raises: ValueError for other shapes, or a class of num_class or more.
        """
        pred, label = np.asarray(pred), np.asarray(label)
        if pred.shape != label.shape:
            raise ValueError(f"pred has shape {pred.shape}, but label has {label.shape}")
        if _all_in_range(pred, 0, self.num_class) and _all_in_range(label, -1, self.num_class):
            # Ignored pixels get a row of their own, which is faster than selecting all other pixels.
            rows = (label.ravel().astype(np.int64) + 1) * self.num_class + pred.ravel()
            self.counts += _count(rows, self.num_class + 1, self.num_class)[1:]
            return
        valid = label >= 0
        truth, guess = label[valid].astype(np.int64), pred[valid].astype(np.int64)
        for name, values in (("label", truth), ("pred", guess)):
            if not _all_in_range(values, 0, self.num_class):
                raise ValueError(
                    f"{name} holds classes {values.min()} to {values.max()}, but there are {self.num_class}"
                )
        self.counts += _count(truth * self.num_class + guess, self.num_class, self.num_class)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class, (num_class,); NaN if in neither label nor prediction."""
        hits, truth, guess = self.margins()
        return _divide(hits, truth + guess - hits)

    def recall(self) -> NDArray[np.float64]:
        """Share of each true class's pixels that were found, (num_class,); NaN for a class without pixels."""
        hits, truth, _ = self.margins()
        return _divide(hits, truth)

    def precision(self) -> NDArray[np.float64]:
        """Share of each predicted class's pixels that are right, (num_class,); NaN if never predicted.

        Source: van Rijsbergen 1979, Information Retrieval, chapter 7.
        """
        hits, _, guess = self.margins()
        return _divide(hits, guess)

    def dice(self) -> NDArray[np.float64]:
        """Twice the intersection over the sum of both areas, (num_class,); NaN for a class in neither.

        Also known as F1: the harmonic mean of precision and recall.
        Source: Dice 1945, Measures of the Amount of Ecologic Association Between Species.
        """
        hits, truth, guess = self.margins()
        return _divide(2 * hits, truth + guess)

    def mean_iou(self) -> float:
        """Mean over the classes that occur in label or prediction; NaN if there are none.

        Source: Everingham et al. 2015, The PASCAL VOC Challenge: A Retrospective, section 3.2.
        """
        return _mean(self.iou())

    def mean_iou_all(self) -> float:
        """Mean over all classes, with 0 for an absent class, as the old scripts printed it."""
        return float(np.nan_to_num(self.iou()).mean())

    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels with the right class; NaN if there are none."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

    def mean_accuracy(self) -> float:
        """Mean recall over the classes that have pixels; NaN if there are none."""
        return _mean(self.recall())

    def frequency_weighted_iou(self) -> float:
        """Mean IoU, weighted by the labelled pixels of each class; NaN if there are none.

        Source: Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation, section 5.
        """
        truth = self.counts.sum(1)
        total = truth.sum()
        return float((truth * np.nan_to_num(self.iou())).sum() / total) if total else float("nan")

    def mean_dice(self) -> float:
        """Mean Dice over the classes that occur in label or prediction; NaN if there are none."""
        return _mean(self.dice())

    def margins(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Right, labelled and predicted pixels of each class, three (num_class,) arrays."""
        return np.diag(self.counts), self.counts.sum(1), self.counts.sum(0)


# The scores that an evaluation reports, in this order.
METRICS: dict[str, Callable[[ConfusionMatrix], float]] = {
    "mean_iou": ConfusionMatrix.mean_iou,
    "mean_iou_all": ConfusionMatrix.mean_iou_all,
    "pixel_accuracy": ConfusionMatrix.pixel_accuracy,
    "mean_accuracy": ConfusionMatrix.mean_accuracy,
    "frequency_weighted_iou": ConfusionMatrix.frequency_weighted_iou,
    "dice": ConfusionMatrix.mean_dice,
}


def accuracy(preds: ArrayLike, label: ArrayLike) -> tuple[float, int]:
    """Share of the pixels labelled 0 or more that are right, and their number; (0.0, 0) if there are none."""
    preds, label = np.asarray(preds), np.asarray(label)
    valid = label >= 0
    count = int(valid.sum())
    return float(((preds == label) & valid).sum() / max(count, 1)), count


def intersectionAndUnion(
    imPred: ArrayLike, imLab: ArrayLike, numClass: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels in intersection and union of each class, two (numClass,) arrays.

    Pixels with a negative label are ignored. A label outside 0 to numClass - 1 counts for no class, but its
    pixel still counts for the predicted class, and vice versa.
    """
    pred, label = np.asarray(imPred), np.asarray(imLab)
    pred, label = pred[label >= 0], label[label >= 0]

    def areas(classes: NDArray[Any]) -> NDArray[np.int64]:
        inside = classes[(classes >= 0) & (classes < numClass)]
        return np.bincount(inside.astype(np.int64), minlength=numClass)

    intersection = areas(pred[pred == label])
    return intersection, areas(pred) + areas(label) - intersection


class AverageMeter:
    """A running weighted mean of numbers or arrays."""

    def __init__(self) -> None:
        self.val: Any = None
        self.sum: Any = None
        self.count: float = 0
        self.avg: Any = None

    def update(self, val: Any, weight: float = 1) -> None:
        self.val = val
        self.sum = val * weight if self.sum is None else self.sum + val * weight
        self.count += weight
        self.avg = self.sum / self.count if self.count else self.avg

    def value(self) -> Any:
        """The last value."""
        return self.val

    def average(self) -> Any:
        """The mean of all values so far; None before the first."""
        return self.avg


def _all_in_range(values: NDArray[Any], first: int, end: int) -> bool:
    return not values.size or bool(values.min() >= first and values.max() < end)


def _count(cells: NDArray[np.int64], rows: int, columns: int) -> NDArray[np.int64]:
    return np.bincount(cells, minlength=rows * columns).reshape(rows, columns)


def _divide(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
