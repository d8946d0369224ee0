"""The outputs that ``TEST.output`` names: pictures and files of a prediction."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..inference.pictures import (
    Image,
    colorEncode,
    overlay,
    save_labels,
    save_picture,
    save_scores,
    side_by_side,
)
from .collected import COLLECTED, PAGE
from .predictor import Prediction
from .tools import labelme
from .tools.areas import Shapes

LABELS = "labels"
POLYGONS = ("geojson", "gpkg")

__all__ = ["LABELS", "OUTPUTS", "PAGE", "POLYGONS", "TOOLS", "Output", "check_outputs", "write"]


class Output(NamedTuple):
    """One kind of output.

    Attributes:
        suffix: added to the name of the image; "" if images do not have this output.
        draw: returns a picture, which is saved as PNG or as a frame of a video.
        save: writes a file that is not a picture.
        annotate: writes a file of a labelling tool.
        video_suffix: added to the name of a video; "" if videos do not have this output.
        scene_suffix: likewise for scenes; their pictures show them at a reduced size.
    """

    suffix: str = ""
    draw: Callable[[Prediction], Image] | None = None
    save: Callable[[Prediction, Path], None] | None = None
    annotate: Callable[[Prediction, Path, Shapes], None] | None = None
    video_suffix: str = ""
    scene_suffix: str = ""


def draw_side_by_side(prediction: Prediction) -> Image:
    """The image and its classes in their colours."""
    classes = colorEncode(prediction.labels, prediction.table.colors)
    return prediction.with_legend(side_by_side([prediction.image, classes]))


def draw_overlay(prediction: Prediction) -> Image:
    """The colours of the classes over the image."""
    return prediction.with_legend(overlay(prediction.image, prediction.labels, prediction.table.colors))


def _save_labels(prediction: Prediction, path: Path) -> None:
    save_labels(prediction.labels, len(prediction.table.names), path)


def _save_scores(prediction: Prediction, path: Path) -> None:
    assert prediction.probabilities is not None
    save_scores(prediction.probabilities, prediction.table.names, path)


def _save_labelme(prediction: Prediction, path: Path, shapes: Shapes) -> None:
    areas = shapes.of("labelme", prediction.labels)
    labelme.save(path, prediction.path, areas, prediction.labels.shape, prediction.table)


TOOLS = ("coco", "labelme", "cvat")
"""The outputs that labelling tools import."""

OUTPUTS: dict[str, Output] = {
    "side_by_side": Output(".png", draw=draw_side_by_side, video_suffix=".mp4", scene_suffix=".png"),
    "overlay": Output(
        "_overlay.png", draw=draw_overlay, video_suffix="_overlay.mp4", scene_suffix="_overlay.png"
    ),
    LABELS: Output("_labels.png", save=_save_labels, scene_suffix="_labels.tif"),
    "scores": Output("_scores.npz", save=_save_scores),
    "labelme": Output(".json", annotate=_save_labelme),
    **{name: Output(scene_suffix=f"_polygons.{name}") for name in POLYGONS},
    **{name: Output() for name in COLLECTED},  # one file for all images, see collected.py
}


def check_outputs(names: Sequence[object]) -> list[str]:
    """The names of outputs without repeats. Raises: UserError for an unknown name, or if there is none."""
    unknown = [str(name) for name in names if name not in OUTPUTS]
    if unknown or not names:
        what = ", ".join(unknown) or "empty"
        raise UserError(f"TEST.output is {what}, but takes one or several of {', '.join(OUTPUTS)}.")
    return list(dict.fromkeys(map(str, names)))


def write(prediction: Prediction, targets: dict[str, Path], shapes: Shapes) -> None:
    """Write the files of an image, by output. Raises: UserError if a file cannot be written."""
    for name, path in targets.items():
        output = OUTPUTS[name]
        if output.draw is not None:
            save_picture(output.draw(prediction), path)
        if output.save is not None:
            output.save(prediction, path)
        if output.annotate is not None:
            output.annotate(prediction, path, shapes)
