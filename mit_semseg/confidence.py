"""How far a score would move with other images: the bootstrap."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .per_image import ImageCounts

_DRAWS_AT_ONCE = 2**20  # which bounds the memory for any number of images


@dataclass(frozen=True)
class Interval:
    """The range of ``level`` of the scores of ``resamples`` lists drawn anew; NaN if there is none."""

    low: float
    high: float
    level: float
    resamples: int
    seed: int


def mean_iou_interval(
    counts: ImageCounts, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean IoU over lists of as many images, drawn from these with replacement.

    Each list is scored as the real one, the mean over the classes that occur in it, but for the classes
    whose labels happen not to be drawn: what is taken for them elsewhere would make them 0, and the interval
    of a list with rare classes would lie below its score. The sums are of whole numbers, and the images
    stand in the order of their list, so the result depends on them and the seed alone.
    Below two images there is nothing to vary, and both ends are NaN.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.
    """
    values = _resampled_mean_iou(counts, resamples, seed) if len(counts) > 1 else np.zeros(0)
    values = values[~np.isnan(values)]
    low, high = np.nan, np.nan
    if values.size:
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(low, high, level, resamples, seed)


def _resampled_mean_iou(counts: ImageCounts, resamples: int, seed: int) -> NDArray[np.float64]:
    """The mean IoU of each list drawn, (resamples,); NaN where no pixel is labelled."""
    from scipy.sparse import csr_array

    images, num_class = len(counts), counts.num_class
    positions, (classes, *pixels) = counts.columns()
    # A column an image; a row for the right pixels of each class, then for the labelled, the predicted.
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
