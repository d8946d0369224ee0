"""The images with the worst and the best predictions."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics.confusion import ConfusionMatrix
from .thumbnails import Thumbnails, thumbnails

_EACH = 6  # images shown as the worst, and as the best


@dataclass(frozen=True)
class Confusion:
    """``pixels`` of class ``truth`` that were predicted as class ``guess``, out of ``labelled`` in all."""

    truth: int
    guess: int
    pixels: int
    labelled: int

    @property
    def share(self) -> float:
        return self.pixels / self.labelled


@dataclass(frozen=True)
class Example:
    """The result on one image. ``confusion`` is its largest one, None if every labelled pixel is right."""

    index: int  # in the list
    name: str
    mean_iou: float
    pixel_accuracy: float
    confusion: Confusion | None
    pictures: Thumbnails

    @property
    def rank(self) -> tuple[float, int]:
        """Sorts the images from the worst to the best, and equals by their position in the list."""
        return self.mean_iou, self.index


class Examples:
    """The worst and the best of all images. Only their pictures take memory."""

    def __init__(self) -> None:
        self._kept: list[Example] = []

    def judge(
        self,
        index: int,
        name: str,
        photo: NDArray[np.uint8],
        label: NDArray[np.integer],
        prediction: NDArray[np.integer],
        matrix: ConfusionMatrix,
        colors: NDArray[np.uint8],
    ) -> Example | None:
        """The example of an image that is among the worst or the best so far by its own mean IoU, or None.

        An image without a labelled pixel has no mean IoU, so it is never an example. An image that is not
        among them now will not be among them after more images either.

        Args:
            matrix: of this image only.
        """
        score = matrix.mean_iou()
        if np.isnan(score) or not self._is_wanted((score, index)):
            return None
        pictures = thumbnails(photo, label, prediction, colors)
        confusion = next(iter(largest_confusions(matrix.counts, 1)), None)
        return Example(index, name, score, matrix.pixel_accuracy(), confusion, pictures)

    def add(self, example: Example) -> None:
        """Keep an image while it is among the worst or the best."""
        self._add([example])

    def merge(self, other: "Examples") -> None:
        """Add the examples from another part of the list."""
        self._add(other._kept)

    def worst(self) -> list[Example]:
        """The worst first. No image is among both the worst and the best."""
        return self._kept[: min(_EACH, (len(self._kept) + 1) // 2)]

    def best(self) -> list[Example]:
        """The best first."""
        return self._kept[::-1][: min(_EACH, len(self._kept) // 2)]

    def _is_wanted(self, rank: tuple[float, int]) -> bool:
        kept = self._kept
        return len(kept) < 2 * _EACH or rank < kept[_EACH - 1].rank or rank > kept[_EACH].rank

    def _add(self, examples: Iterable[Example]) -> None:
        kept = sorted([*self._kept, *examples], key=lambda example: example.rank)
        self._kept = kept if len(kept) <= 2 * _EACH else kept[:_EACH] + kept[-_EACH:]


def largest_confusions(
    counts: NDArray[np.int64], most: int, *, by_share: bool = False, least_share: float = 0
) -> list[Confusion]:
    """The confusions with the most pixels, or with the largest share of the true class's pixels.

    Args:
        counts: (num_class, num_class); row: true class, column: predicted class.
        most: the highest number of confusions to return.
        by_share: sort by the share of the true class's pixels.
        least_share: skip true classes that have a smaller share of all labelled pixels.
    """
    labelled = counts.sum(1)
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    errors[labelled < least_share * labelled.sum()] = 0
    order: NDArray[np.float64] | NDArray[np.int64] = errors
    if by_share:
        order = errors / np.maximum(labelled, 1)[:, None]
    largest = np.argsort(-order, axis=None, kind="stable")[:most]
    found = [divmod(int(cell), len(counts)) for cell in largest]
    return [
        Confusion(truth, guess, int(errors[truth, guess]), int(labelled[truth]))
        for truth, guess in found
        if errors[truth, guess]
    ]
