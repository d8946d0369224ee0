"""What an evaluation keeps of the images it has scored."""

from typing import Any

import numpy as np

from ...boundary import BoundaryCounts
from ...calibration import Calibration
from ...data.classes import ClassTable
from ...distributed import gather_from_processes
from ...metrics import ConfusionMatrix
from ...per_image import ImageCounts
from ...report.examples import Examples
from .scored import Scored


class Tally:
    """The scores of a share of the list; shares join to the same result, however the list was cut.

    Args:
        boundary: also count pixels near contours.
        calibration: also count pixels by the probability of their class.

    Attributes:
        matrix: over all images.
        boundary, calibration: over all images, None unless asked for.
        images: the counts of each image.
        examples: the worst and the best images.
        seconds: time that the scoring took; of several shares the longest, since they run side by side.
        timed: how many of the images were scored in that time, and not before.
    """

    def __init__(self, table: ClassTable, *, boundary: bool = False, calibration: bool = False) -> None:
        self._colors = table.colors
        num_class = len(table.names)
        self.matrix = ConfusionMatrix(num_class)
        self.boundary = BoundaryCounts(num_class) if boundary else None
        self.calibration = Calibration() if calibration else None
        self.images = ImageCounts(num_class)
        self.examples = Examples()
        self.seconds = 0.0
        self.timed = 0

    def score(
        self,
        index: int,
        item: dict[str, Any],
        label: np.ndarray,
        prediction: np.ndarray,
        confidence: np.ndarray | None = None,
    ) -> Scored:
        """The result on the image that stands at ``index`` of the list; nothing is added up yet.

        Args:
            item: of ValDataset.
            label: (H, W) true classes, negative where unlabelled.
            prediction: (H, W) classes.
            confidence: (H, W) their probabilities, needed with ``calibration``.
        """
        matrix = ConfusionMatrix(self.matrix.num_class)
        matrix.update(prediction, label)
        boundary = calibration = None
        if self.boundary is not None:
            boundary = BoundaryCounts(self.matrix.num_class)
            boundary.update(prediction, label)
        if self.calibration is not None:
            if confidence is None:
                raise ValueError("confidence is None, but calibration needs the probabilities")
            calibration = Calibration()
            calibration.update(prediction, confidence, label)
        example = self.examples.judge(
            index, item["info"], item["img_ori"], label, prediction, matrix, self._colors
        )
        return Scored(index, matrix, boundary, calibration, example)

    def include(self, scored: Scored) -> None:
        """Add the result on an image."""
        self.images.add(scored.index, scored.matrix)
        self._add_counts(scored)
        if scored.example is not None:
            self.examples.add(scored.example)

    def merge(self, other: "Tally") -> None:
        """Add another share."""
        self._add_counts(other)
        self.images.merge(other.images)
        self.examples.merge(other.examples)
        self.seconds = max(self.seconds, other.seconds)
        self.timed += other.timed

    def gathered(self) -> "Tally":
        """This share joined with those of all other processes; the same in each of them."""
        first, *others = gather_from_processes(self)
        for other in others:
            first.merge(other)
        return first

    def _add_counts(self, other: "Scored | Tally") -> None:
        self.matrix.counts += other.matrix.counts
        if self.boundary is not None and other.boundary is not None:
            self.boundary.counts += other.boundary.counts
        if self.calibration is not None and other.calibration is not None:
            self.calibration.counts += other.calibration.counts
