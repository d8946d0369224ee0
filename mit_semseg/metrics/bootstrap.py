"""The bootstrap confidence interval of the mean IoU, from the pixel counts of each image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .confusion import ConfusionMatrix

_DRAWS_AT_ONCE = 2**20  # bounds the memory for any number of images


class ImageCounts:
    """Counts of right, labelled and predicted pixels of each class in each image; they determine every IoU.

    Only the classes that occur in an image take memory, 32 bytes each: 10 MB for 20 000 images with 15
    classes each, 100 MB if each image has 150.
    """

    def __init__(self, num_class: int) -> None:
        self.num_class = num_class
        self._images: dict[int, NDArray[np.int64]] = {}  # (4, classes): class, right, labelled, predicted

    def __len__(self) -> int:
        return len(self._images)

    def add(self, index: int, matrix: ConfusionMatrix) -> None:
        """Keep the counts of the image at ``index`` in its list."""
        right, labelled, predicted = matrix.margins()
        (classes,) = np.nonzero(labelled + predicted)
        self._images[index] = np.stack([classes, right[classes], labelled[classes], predicted[classes]])

    def merge(self, other: "ImageCounts") -> None:
        """Add the images of another part of the list."""
        self._images.update(other._images)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All counts, in the order of the images in the list. The order of adding them does not matter.

        Returns: the position of each entry's image, 0 to ``len(self) - 1``, (entries,); the class and the
            right, labelled and predicted pixels of each entry, (4, entries).
        """
        parts = [self._images[index] for index in sorted(self._images)]
        images = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
        return images, np.concatenate([np.zeros((4, 0), np.int64), *parts], axis=1)


@dataclass(frozen=True)
class Interval:
    """The central range of a share ``level`` of ``resamples`` resampled scores; NaN without any."""

    low: float
    high: float
    level: float
    resamples: int
    seed: int


def mean_iou_interval(
    counts: ImageCounts, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """The percentile bootstrap interval of the mean IoU, over lists of images drawn with replacement.

    Each drawn list has as many images as the real one, and is scored like it: by the mean over the classes
    that occur. The exception is a class that has labels in the real list, but none in the drawn one. It is
    not counted, because pixels wrongly predicted as this class would give it an IoU of 0, and the interval of
    a list with rare classes would lie below its score.

    The sums are integers, and the images are in the order of their list, so the result depends only on the
    counts and the seed. With fewer than two images, both ends are NaN.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.
    """
    values = _resampled_mean_iou(counts, resamples, seed) if len(counts) > 1 else np.zeros(0)
    values = values[~np.isnan(values)]
    low, high = np.nan, np.nan
    if values.size:
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(low, high, level, resamples, seed)


def _resampled_mean_iou(counts: ImageCounts, resamples: int, seed: int) -> NDArray[np.float64]:
    """The mean IoU of each drawn list, (resamples,); NaN where no pixel is labelled."""
    from scipy.sparse import csr_array

    images, num_class = len(counts), counts.num_class
    positions, (classes, *pixels) = counts.columns()
    # One column per image. One row per class for the right pixels, then the labelled, then the predicted.
    rows = np.concatenate([k * num_class + classes for k in range(3)])
    table = csr_array(
        (np.concatenate(pixels), (rows, np.tile(positions, 3))), shape=(3 * num_class, images), dtype=np.int64
    )
    random = np.random.Generator(np.random.Philox(seed))
    never_labelled = (table.sum(1).reshape(3, num_class)[1] == 0)[:, None]
    values = []
    for start in range(0, resamples, step := max(1, _DRAWS_AT_ONCE // images)):
        times_drawn = np.stack(
            [
                np.bincount(random.integers(images, size=images), minlength=images)
                for _ in range(min(step, resamples - start))
            ],
            axis=1,
        )
        right, labelled, predicted = (table @ times_drawn).reshape(3, num_class, -1)
        union = labelled + predicted - right
        iou = np.divide(right, union, out=np.zeros(union.shape), where=union > 0)
        counted = (union > 0) & ((labelled > 0) | never_labelled)
        number = counted.sum(0)
        sums = (iou * counted).sum(0)
        values.append(np.divide(sums, number, out=np.full(len(number), np.nan), where=number > 0))
    return np.concatenate(values)
