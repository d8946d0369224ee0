"""The result on an image, and the sum of such results."""

import base64
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.classes import ClassTable
from ..metrics.bootstrap import ImageCounts
from ..metrics.boundary import BoundaryCounts
from ..metrics.calibration import Calibration
from ..metrics.confusion import ConfusionMatrix
from ..metrics.threshold import PrecisionRecall
from ..report.examples import Confusion, Example, Examples
from ..report.thumbnails import Thumbnails
from ..runtime.distributed import gather_from_processes


@dataclass(frozen=True)
class ImageResult:
    """All that an evaluation needs to know of an image after it was scored.

    Attributes:
        index: of the image in the list.
        matrix: the confusion matrix of this image.
        boundary, calibration, threshold: the counts of this image; None if they were not asked for.
        example: for the report; None if the image was not among the worst or the best so far.
    """

    index: int
    matrix: ConfusionMatrix
    boundary: BoundaryCounts | None
    calibration: Calibration | None
    threshold: PrecisionRecall | None
    example: Example | None

    def to_json(self) -> dict[str, Any]:
        """The result as values for JSON; `from_json` restores it exactly."""
        value = {
            "index": self.index,
            "matrix": _sparse(self.matrix.counts),
            "boundary": self.boundary and _sparse(self.boundary.counts),
            "calibration": self.calibration and _sparse(self.calibration.counts),
            "example": self.example and _example_to_json(self.example),
        }
        if self.threshold is not None:
            value["threshold"] = _sparse(self.threshold.counts)
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any], num_class: int) -> "ImageResult":
        """The result that `to_json` returned this value for.

        Raises: ValueError, or another error of Python or NumPy, for a value that it has not returned.
        """
        matrix = ConfusionMatrix(num_class)
        _fill(matrix.counts, value["matrix"])
        boundary = calibration = threshold = None
        if value["boundary"] is not None:
            boundary = BoundaryCounts(num_class)
            _fill(boundary.counts, value["boundary"])
        if value["calibration"] is not None:
            calibration = Calibration()
            _fill(calibration.counts, value["calibration"])
        if "threshold" in value:
            threshold = PrecisionRecall()
            _fill(threshold.counts, value["threshold"])
        example = value["example"] and _example_from_json(value["example"])
        result = cls(value["index"], matrix, boundary, calibration, threshold, example)
        if type(result.index) is not int or result.to_json() != value:
            raise ValueError("not a result on an image")
        return result


class Tally:
    """The sum of the results on the images of a list, or of one process's share of it.

    Shares add up to the same sum, however the list was divided.

    Args:
        boundary: also count the pixels near contours.
        calibration: also count the pixels by the probability of their class.
        threshold: also count the pixels by the probability of the second of two classes.

    Attributes:
        matrix: over all images.
        boundary, calibration, threshold: over all images; None if they were not asked for.
        images: the counts of each image.
        examples: the worst and the best images.
        seconds: duration of the scoring; of several shares the longest, because processes run in parallel.
        timed: images that were scored in this time. Results from a journal are not among them.
    """

    def __init__(
        self,
        table: ClassTable,
        *,
        boundary: bool = False,
        calibration: bool = False,
        threshold: bool = False,
    ) -> None:
        self._colors = table.colors
        num_class = len(table.names)
        self.matrix = ConfusionMatrix(num_class)
        self.boundary = BoundaryCounts(num_class) if boundary else None
        self.calibration = Calibration() if calibration else None
        self.threshold = PrecisionRecall() if threshold else None
        self.images = ImageCounts(num_class)
        self.examples = Examples()
        self.seconds = 0.0
        self.timed = 0

    @property
    def needs_confidence(self) -> bool:
        """Whether `score` needs the probabilities of the classes."""
        return self.calibration is not None or self.threshold is not None

    def score(
        self,
        index: int,
        item: dict[str, Any],
        label: np.ndarray,
        prediction: np.ndarray,
        confidence: np.ndarray | None = None,
    ) -> ImageResult:
        """The result on image ``index`` of the list. It is not added; `include` does that.

        Args:
            item: of ValDataset.
            label: (H, W) true classes, negative where unlabelled.
            prediction: (H, W) classes.
            confidence: (H, W) their probabilities, see `needs_confidence`.
        """
        matrix = ConfusionMatrix(self.matrix.num_class)
        matrix.update(prediction, label)
        boundary = calibration = threshold = None
        if self.boundary is not None:
            boundary = BoundaryCounts(self.matrix.num_class)
            boundary.update(prediction, label)
        if self.needs_confidence and confidence is None:
            raise ValueError("confidence is None, but calibration and threshold need the probabilities")
        if self.calibration is not None and confidence is not None:
            calibration = Calibration()
            calibration.update(prediction, confidence, label)
        if self.threshold is not None and confidence is not None:
            threshold = PrecisionRecall()
            threshold.update(prediction, confidence, label)
        example = self.examples.judge(
            index, item["info"], item["img_ori"], label, prediction, matrix, self._colors
        )
        return ImageResult(index, matrix, boundary, calibration, threshold, example)

    def include(self, result: ImageResult) -> None:
        """Add the result on an image."""
        self.images.add(result.index, result.matrix)
        self._add_counts(result)
        if result.example is not None:
            self.examples.add(result.example)

    def merge(self, other: "Tally") -> None:
        """Add another share."""
        self._add_counts(other)
        self.images.merge(other.images)
        self.examples.merge(other.examples)
        self.seconds = max(self.seconds, other.seconds)
        self.timed += other.timed

    def gathered(self) -> "Tally":
        """The sum of the shares of all processes, the same in each of them."""
        first, *others = gather_from_processes(self)
        for other in others:
            first.merge(other)
        return first

    def _add_counts(self, other: "ImageResult | Tally") -> None:
        self.matrix.counts += other.matrix.counts
        if self.boundary is not None and other.boundary is not None:
            self.boundary.counts += other.boundary.counts
        if self.calibration is not None and other.calibration is not None:
            self.calibration.counts += other.calibration.counts
        if self.threshold is not None and other.threshold is not None:
            self.threshold.counts += other.threshold.counts


def _sparse(counts: NDArray[np.int64]) -> list[list[int]]:
    """The flat indices of the nonzero counts, and these counts."""
    (indices,) = np.nonzero(counts.ravel())
    return [indices.tolist(), counts.ravel()[indices].tolist()]


def _fill(counts: NDArray[np.int64], sparse: list[list[int]]) -> None:
    indices, values = sparse
    counts.reshape(-1)[indices] = values


def _example_to_json(example: Example) -> dict[str, Any]:
    pictures = [base64.b64encode(picture).decode("ascii") for picture in example.pictures]
    return asdict(example) | {"pictures": pictures}


def _example_from_json(value: dict[str, Any]) -> Example:
    pictures = Thumbnails(*(base64.b64decode(picture) for picture in value["pictures"]))
    confusion = value["confusion"] and Confusion(**value["confusion"])
    example = Example(**value | {"pictures": pictures, "confusion": confusion})
    numbers = (example.mean_iou, example.pixel_accuracy, *(vars(confusion).values() if confusion else ()))
    if not isinstance(example.name, str) or not all(type(number) in (int, float) for number in numbers):
        raise ValueError("not an example")
    return example
