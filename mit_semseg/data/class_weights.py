"""How much a pixel of each class counts in the loss, so that rare classes are learned, too."""

from collections.abc import Callable

import numpy as np


class ClassCounts:
    """The labelled pixels of each class in a list, added up label by label.

    Attributes:
        pixels: of each class; (C,) int64.
        around: labelled pixels, of any class, in the labels that have the class; (C,) int64.
    """

    def __init__(self, num_class: int) -> None:
        self.pixels = np.zeros(num_class, np.int64)
        self.around = np.zeros(num_class, np.int64)

    def add(self, counts: np.ndarray) -> None:
        """Count a label, given the number of its pixels of each class, (C,)."""
        self.pixels += counts
        self.around[counts > 0] += counts.sum()


def median_frequency(counts: ClassCounts, constant: float) -> np.ndarray:
    """The median of all frequencies over that of the class, (C,) float64; 0 for a class that never occurs.

    The frequency of a class is its share of the labelled pixels in the images that have it.

    Source: Eigen and Fergus 2015, Predicting Depth, Surface Normals and Semantic Labels, section 6.3.2.
    """
    frequency = counts.pixels / np.maximum(counts.around, 1)
    occurs = counts.pixels > 0
    weights = np.zeros(len(frequency))
    weights[occurs] = np.median(frequency[occurs]) / frequency[occurs]
    return weights


def enet(counts: ClassCounts, constant: float) -> np.ndarray:
    """``1 / ln(constant + share)``, (C,) float64, of the class's share of all labelled pixels.

    0 for a class that never occurs.

    Source: Paszke et al. 2016, ENet, section 5.2, where the constant is 1.02.
    """
    share = counts.pixels / max(counts.pixels.sum(), 1)
    return np.where(counts.pixels > 0, 1 / np.log(constant + share), 0.0)


CLASS_WEIGHTS: dict[str, Callable[[ClassCounts, float], np.ndarray]] = {
    "median_frequency": median_frequency,
    "enet": enet,
}
