"""The result on one image, and the text that keeps it for a later process."""

import base64
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boundary import BoundaryCounts
from ...calibration import Calibration
from ...metrics import ConfusionMatrix
from ...report.examples import Confusion, Example
from ...report.thumbnails import Thumbnails


@dataclass(frozen=True)
class Scored:
    """All that an evaluation keeps of an image.

    Attributes:
        index: of the image in the list.
        matrix: of this image alone, as the next two are, which are None unless asked for.
        example: for the report, None if the image was neither among the worst nor among the best so far.
    """

    index: int
    matrix: ConfusionMatrix
    boundary: BoundaryCounts | None
    calibration: Calibration | None
    example: Example | None


def to_json(scored: Scored) -> dict[str, Any]:
    """The result as JSON has it; `from_json` brings it back to the last digit."""
    counted = {"matrix": scored.matrix, "boundary": scored.boundary, "calibration": scored.calibration}
    return {
        "index": scored.index,
        **{name: part and _sparse(part.counts) for name, part in counted.items()},
        "example": scored.example and _of_example(scored.example),
    }


def from_json(value: dict[str, Any], num_class: int) -> Scored:
    """The result that `to_json` made this of."""
    matrix = ConfusionMatrix(num_class)
    _fill(matrix.counts, value["matrix"])
    boundary = calibration = None
    if value["boundary"] is not None:
        boundary = BoundaryCounts(num_class)
        _fill(boundary.counts, value["boundary"])
    if value["calibration"] is not None:
        calibration = Calibration()
        _fill(calibration.counts, value["calibration"])
    example = value["example"] and _example(value["example"])
    return Scored(value["index"], matrix, boundary, calibration, example)


def _sparse(counts: NDArray[np.int64]) -> list[list[int]]:
    """The places of the counts that are not 0, and the counts."""
    (places,) = np.nonzero(counts.ravel())
    return [places.tolist(), counts.ravel()[places].tolist()]


def _fill(counts: NDArray[np.int64], sparse: list[list[int]]) -> None:
    places, values = sparse
    counts.reshape(-1)[places] = values


def _of_example(example: Example) -> dict[str, Any]:
    pictures = [base64.b64encode(picture).decode("ascii") for picture in example.pictures]
    return asdict(example) | {"pictures": pictures}


def _example(value: dict[str, Any]) -> Example:
    pictures = Thumbnails(*(base64.b64decode(picture) for picture in value["pictures"]))
    confusion = value["confusion"] and Confusion(**value["confusion"])
    return Example(**value | {"pictures": pictures, "confusion": confusion})
