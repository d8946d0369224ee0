"""A trained network as a function from a scaled image to its prediction, for images and frames alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.classes import ClassTable
from ..inference.exported import AnyNetwork
from ..inference.pictures import Image, add_legend, by_share, class_shares, unlabelled
from ..inference.predict import (
    Settings,
    labels_of,
    margin,
    predict_labels,
    predict_margins,
    predict_probabilities,
)


@dataclass(frozen=True)
class Prediction:
    """An image, or a frame of a video, and its predicted classes.

    Attributes:
        image: (H, W, 3) RGB.
        labels: (H, W) classes; -1 where the image has no data.
        probabilities: (num_class, H, W); None if they were not asked for.
        legend: whether pictures have a legend.
        path: of the input.
        doubt: (H, W) of 0 to 1, how unsure the model is of each pixel; None if it was not asked for.
        legend_rows: the height of the legend, so that it is the same for all frames; None: as many as needed.
    """

    image: Image
    labels: NDArray[np.integer]
    table: ClassTable
    probabilities: NDArray[np.float16] | None = None
    legend: bool = False
    legend_rows: int | None = None
    path: str = ""
    doubt: NDArray[np.float32] | None = None

    def shares(self) -> NDArray[np.float64]:
        """The share of each class in the pixels."""
        return class_shares(self.labels, len(self.table.names))

    def with_legend(self, picture: Image) -> Image:
        """A picture of this prediction with the legend below it, if it was asked for."""
        if not self.legend:
            return picture
        classes = by_share(self.shares())
        return add_legend(picture, classes, self.table.names, self.table.colors, rows=self.legend_rows)


@dataclass(frozen=True)
class Predictor:
    """A network with the way it is used.

    Attributes:
        probabilities: whether predictions hold the probabilities of all classes.
        legend: whether pictures have a legend.
        doubt: whether predictions say how unsure the model is.
    """

    network: AnyNetwork
    settings: Settings
    table: ClassTable
    probabilities: bool
    legend: bool
    doubt: bool = False

    def predict(
        self,
        image: Image,
        scaled: Sequence[torch.Tensor],
        legend_rows: int | None = None,
        *,
        name: str = "an image",
        without_data: NDArray[np.bool_] | None = None,
    ) -> Prediction:
        """The prediction for an image.

        Args:
            image: (H, W, 3) RGB.
            scaled: the image at each scale, (1, C, h, w).
            legend_rows: see `Prediction`.
            name: path of the image.
            without_data: pixels that get no class, (H, W).

        Raises: UserError if the scores are not finite.
        """
        size = image.shape[:2]
        probabilities = doubt = None
        if self.probabilities:
            scores = predict_probabilities(self.network, scaled, size, self.settings, [name])[0]
            labels = labels_of(scores.movedim(0, -1), self.settings).cpu().numpy()
            probabilities = scores.to(torch.float16).cpu().numpy()
            if self.doubt:
                doubt = (1 - margin(scores.movedim(0, -1), self.settings)).cpu().numpy()
        elif self.doubt:
            found, margins = predict_margins(self.network, scaled, size, self.settings, [name])
            labels, doubt = found[0].numpy(), (1 - margins[0]).numpy()
        else:
            labels = predict_labels(self.network, scaled, size, self.settings, [name])[0].numpy()
        labels = unlabelled(labels, without_data)
        if doubt is not None and without_data is not None:
            doubt[without_data] = 0  # there is nothing to correct
        return Prediction(image, labels, self.table, probabilities, self.legend, legend_rows, name, doubt)
