"""From scaled images to what `writers` write, for images and frames alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...data.classes import ClassTable
from ...inference import ScoringNetwork, Settings, predict_labels, predict_probabilities
from ...legend import by_share
from ...visualize import Image
from .writers import Segmented


@dataclass(frozen=True)
class Segmenting:
    """A network, and what is wanted of it: the names of the outputs, and whether with a legend."""

    network: ScoringNetwork
    settings: Settings
    table: ClassTable
    names: Sequence[str]
    legend: bool

    def segment(
        self, image: Image, scaled: Sequence[torch.Tensor], legend_rows: int | None = None
    ) -> Segmented:
        """An image with its labels, and its probabilities if there is an output of them.

        Args:
            image: (H, W, 3) RGB.
            scaled: at each scale, (1, 3, h, w).
            legend_rows: see `Segmented`.
        """
        size = image.shape[:2]
        probabilities = None
        if "scores" in self.names:
            scores = predict_probabilities(self.network, scaled, size, settings=self.settings)
            labels = scores.argmax(0).cpu().numpy()
            probabilities = scores.to(torch.float16).cpu().numpy()
        else:
            labels = predict_labels(self.network, scaled, size, self.settings)[0].numpy()
        return Segmented(image, labels, self.table, probabilities, self.legend, legend_rows)


def describe(name: str, shares: NDArray[np.float64], table: ClassTable, files: Sequence[Path]) -> str:
    """The classes of an image, the largest first, with their shares of its pixels; and its outputs."""
    lines = [f"Predictions in [{printable(name)}]:"]
    lines += [f"  {table.names[k]}: {100 * shares[k]:.2f}%" for k in by_share(shares)]
    lines += [f"  -> {printable(str(file))}" for file in files]
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    r"""A text on one line.

    >>> printable("a\nb.jpg")
    'a\\nb.jpg'
    """
    return text.replace("\r", "\\r").replace("\n", "\\n")
