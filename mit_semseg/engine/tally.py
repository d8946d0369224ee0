"""What an evaluation keeps of the images it has scored."""

from typing import Any

import numpy as np

from ..data.classes import ClassTable
from ..distributed import gather_from_processes
from ..metrics import ConfusionMatrix
from ..per_image import ImageCounts
from ..report.examples import Examples


class Tally:
    """The scores of a share of the list; shares join to the same result, however the list was cut.

    Attributes:
        matrix: over all images.
        images: the counts of each image.
        examples: the worst and the best images.
        seconds: time that the scoring took; of several shares the longest, since they run side by side.
    """

    def __init__(self, table: ClassTable) -> None:
        self._colors = table.colors
        self.matrix = ConfusionMatrix(len(table.names))
        self.images = ImageCounts(len(table.names))
        self.examples = Examples()
        self.seconds = 0.0

    def add(self, index: int, item: dict[str, Any], label: np.ndarray, prediction: np.ndarray) -> None:
        """Count the image that stands at ``index`` of the list.

        Args:
            item: of ValDataset.
            label: (H, W) true classes, negative where unlabelled.
            prediction: (H, W) classes.
        """
        matrix = ConfusionMatrix(self.matrix.num_class)
        matrix.update(prediction, label)
        self.matrix.counts += matrix.counts
        self.images.add(index, matrix)
        self.examples.offer(index, item["info"], item["img_ori"], label, prediction, matrix, self._colors)

    def merge(self, other: "Tally") -> None:
        """Add another share."""
        self.matrix.counts += other.matrix.counts
        self.images.merge(other.images)
        self.examples.merge(other.examples)
        self.seconds = max(self.seconds, other.seconds)

    def gathered(self) -> "Tally":
        """This share joined with those of all other processes; the same in each of them."""
        first, *others = gather_from_processes(self)
        for other in others:
            first.merge(other)
        return first
