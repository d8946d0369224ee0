"""What is made of a segmented image: the outputs that ``TEST.output`` names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data.classes import ClassTable
from ...errors import UserError
from ...legend import add_legend, by_share, class_shares
from ...segmentation import save_labels, save_scores
from ...visualize import Image, colorEncode, overlay, save_picture, side_by_side

PAGE = "html"


@dataclass(frozen=True)
class Segmented:
    """An image, or a frame of a video, and what has come out for it.

    Attributes:
        image: (H, W, 3) RGB.
        labels: (H, W) classes.
        probabilities: (num_class, H, W), where scores are wanted.
        legend: whether pictures get one.
        legend_rows: fixes its height, so that all frames have the same; None: as many as it needs.
    """

    image: Image
    labels: NDArray[np.integer]
    table: ClassTable
    probabilities: NDArray[np.float16] | None = None
    legend: bool = False
    legend_rows: int | None = None

    def shares(self) -> NDArray[np.float64]:
        """The share of each class in the pixels."""
        return class_shares(self.labels, len(self.table.names))

    def explained(self, picture: Image) -> Image:
        """A picture with the legend, if it is to have one."""
        if not self.legend:
            return picture
        classes = by_share(self.shares())
        return add_legend(picture, classes, self.table.names, self.table.colors, rows=self.legend_rows)


class Output(NamedTuple):
    """One kind of output.

    Attributes:
        suffix: of the file's name, behind the name of the image.
        draw: a picture, to be written as PNG, or as a frame of a video.
        save: writes what is no picture.
        video_suffix: of the name of a video.
    """

    suffix: str
    draw: Callable[[Segmented], Image] | None = None
    save: Callable[[Segmented, Path], None] | None = None
    video_suffix: str = ""


def draw_side_by_side(result: Segmented) -> Image:
    """The image and its classes in their colours."""
    return result.explained(side_by_side([result.image, colorEncode(result.labels, result.table.colors)]))


def draw_overlay(result: Segmented) -> Image:
    """The colours of the classes over the image."""
    return result.explained(overlay(result.image, result.labels, result.table.colors))


def _save_labels(result: Segmented, path: Path) -> None:
    save_labels(result.labels, len(result.table.names), path)


def _save_scores(result: Segmented, path: Path) -> None:
    assert result.probabilities is not None
    save_scores(result.probabilities, result.table.names, path)


OUTPUTS: dict[str, Output] = {
    "side_by_side": Output(".png", draw=draw_side_by_side, video_suffix=".mp4"),
    "overlay": Output("_overlay.png", draw=draw_overlay, video_suffix="_overlay.mp4"),
    "labels": Output("_labels.png", save=_save_labels),
    "scores": Output("_scores.npz", save=_save_scores),
    PAGE: Output(""),  # one for all images, see page.py
}


def check_outputs(names: Sequence[object]) -> list[str]:
    """Names of outputs, each once. Raises: UserError for an unknown name, or none."""
    unknown = [str(name) for name in names if name not in OUTPUTS]
    if unknown or not names:
        what = ", ".join(unknown) or "empty"
        raise UserError(f"TEST.output is {what}, but takes one or several of {', '.join(OUTPUTS)}.")
    return list(dict.fromkeys(map(str, names)))


def write(result: Segmented, targets: dict[str, Path]) -> None:
    """Write a segmented image's files. Raises: UserError if the disk refuses."""
    for name, path in targets.items():
        output = OUTPUTS[name]
        if output.draw is not None:
            save_picture(output.draw(result), path)
        if output.save is not None:
            output.save(result, path)
