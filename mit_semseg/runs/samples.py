"""The predictions of several runs on the same images, from pictures of validations and evaluations."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from ..training.samples import FOLDER as VALIDATED
from .run import Run

_MOST = 6  # images
_SEARCHED = 2000  # pictures of a run that are considered
_LONG_EDGE = 320  # pixels


@dataclass(frozen=True)
class Sample:
    """An image as PNG or JPEG: photo, truth, and the predictions by the index of the run."""

    name: str
    photo: bytes
    truth: bytes
    predictions: dict[int, bytes]


def samples(runs: Sequence[Run]) -> list[Sample]:
    """The images that the most runs have predicted, at most six, with their latest predictions.

    Runs with different validation lists share no image, even if the names are the same.
    """
    strips: dict[tuple[str, str], dict[int, Path]] = {}
    for index, run in enumerate(runs):
        for name, path in _strips(run).items():
            strips.setdefault((str(run.config.get("DATASET.list_val")), name), {})[index] = path
    wanted = sorted(strips.items(), key=lambda item: (-len(item[1]), item[0]))[:_MOST]
    found = (_sample(name, paths) for (_, name), paths in wanted)
    return [sample for sample in found if sample is not None]


def _strips(run: Run) -> dict[str, Path]:
    """The pictures of image | truth | prediction by name: of the validation or the evaluation."""
    for folder in (run.folder / VALIDATED, run.folder / "result"):
        paths = [path for path in sorted(folder.rglob("*.png"))[:_SEARCHED] if not path.name.startswith(".")]
        if paths:
            return {path.relative_to(folder).as_posix().removesuffix(".png"): path for path in paths}
    return {}


def _sample(name: str, paths: dict[int, Path]) -> Sample | None:
    """The sample; None if no picture can be read. A run that trains may be replacing one."""
    parts = {index: thirds for index, path in paths.items() if (thirds := _thirds(path)) is not None}
    if not parts:
        return None
    photo, truth, _ = next(iter(parts.values()))
    return Sample(
        name,
        _encoded(photo, "JPEG"),
        _encoded(truth, "PNG"),
        {index: _encoded(thirds[2], "PNG") for index, thirds in parts.items()},
    )


def _thirds(path: Path) -> list[PIL.Image.Image] | None:
    try:
        with PIL.Image.open(path) as picture:
            strip = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return None
    width = strip.shape[1] // 3
    if not width or strip.shape[1] % 3:
        return None
    return [PIL.Image.fromarray(strip[:, k * width : (k + 1) * width]) for k in range(3)]


def _encoded(picture: PIL.Image.Image, kind: str) -> bytes:
    factor = min(1.0, _LONG_EDGE / max(picture.size))
    width, height = (max(1, round(side * factor)) for side in picture.size)
    # Mixing the colours of two classes would show a third one.
    way = PIL.Image.Resampling.NEAREST if kind == "PNG" else PIL.Image.Resampling.BILINEAR
    file = io.BytesIO()
    picture.resize((width, height), way).save(file, format=kind, optimize=True, quality=80)
    return file.getvalue()
