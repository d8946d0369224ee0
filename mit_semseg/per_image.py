"""What each image adds to the scores, for statistics over images."""

import numpy as np
from numpy.typing import NDArray

from .metrics import ConfusionMatrix


class ImageCounts:
    """Right, labelled and predicted pixels of each class in each image: what every IoU is made of.

    Only the classes that occur in an image take memory, 32 bytes each: 10 MB for 20 000 images with 15
    classes each, 100 MB if all of 150 occur in all of them.
    """

    def __init__(self, num_class: int) -> None:
        self.num_class = num_class
        self._images: dict[int, NDArray[np.int64]] = {}  # (4, classes): class, right, labelled, predicted

    def __len__(self) -> int:
        return len(self._images)

    def add(self, index: int, matrix: ConfusionMatrix) -> None:
        """Keep the counts of the image that stands at ``index`` of its list."""
        right, labelled, predicted = matrix.margins()
        (classes,) = np.nonzero(labelled + predicted)
        self._images[index] = np.stack([classes, right[classes], labelled[classes], predicted[classes]])

    def merge(self, other: "ImageCounts") -> None:
        """Add the images of another share of the list."""
        self._images.update(other._images)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All counts, ordered by the images' places in the list, whatever the order they were added in.

        Returns: the position of the image that each entry belongs to, 0 to ``len(self) - 1``, (entries,);
            class, right, labelled and predicted pixels of each entry, (4, entries).
        """
        parts = [self._images[index] for index in sorted(self._images)]
        images = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
        return images, np.concatenate([np.zeros((4, 0), np.int64), *parts], axis=1)
