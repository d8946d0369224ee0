"""Smaller forms of an exported model, which are kept only if they score as well on the validation list."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from ..data.datasets import ValDataset
from ..data.shards import file_on_disk
from ..errors import UserError
from ..export.opened import Image, files_of
from ..export.smaller import Images, halved, quantized, record_scores
from ..inference.exported import ExportedNetwork
from ..inference.load import class_table, scoring_settings
from ..runtime.distributed import ProcessInfo
from .score_list import batches_of_list, score_list
from .tally import Tally

_MOST_IMAGES = 128  # to calibrate with, from all over the list
_ROUNDS = 7  # of the measurement of speed


@dataclass(frozen=True)
class Lists:
    """The images that a smaller model is made from and judged by.

    Attributes:
        calibration: None for float16, which needs none.
        validation: the validation list.
    """

    calibration: ValDataset | None
    validation: ValDataset


@dataclass(frozen=True)
class Measured:
    """A model as it was measured: mean IoU as a share, bytes on the disk, and seconds for an image."""

    name: str
    mean_iou: float
    size: int
    seconds: float


def find_lists(cfg: CfgNode, calibrate: str | None) -> Lists:
    """The lists, after a check that their files exist.

    Raises: UserError for a list that cannot be used, without labels, or whose files do not exist.
    """
    data = cfg.DATASET
    validation = ValDataset(data.root_dataset, data.list_val, data)
    calibration = None if calibrate is None else ValDataset(data.root_dataset, calibrate, data)
    for dataset in filter(None, (calibration, validation)):
        for k in range(len(dataset)):
            for file in dataset.files(k):
                local = file_on_disk(file)
                if local is not None and not local.is_file():
                    raise UserError(
                        f"{file} does not exist. See {dataset.records.line(k) or 'the list'}, or set "
                        "DATASET.root_dataset to the folder of the dataset."
                    )
    return Lists(calibration, validation)


def make_smaller(cfg: CfgNode, model: Path, new: Path, lists: Lists, max_drop: float) -> list[Measured]:
    """Write ``new`` in 8-bit integers or with weights in float16, if it scores as well as ``model``.

    Args:
        cfg: of the model, for scales, classes and the validation list.
        model, new: exported files of the same format.
        lists: with images to calibrate with, for 8-bit integers.
        max_drop: points of mean IoU that may be lost.

    Returns: both as measured, ``model`` first.
    Raises: UserError if more is lost; then ``new`` does not exist.
    """
    if lists.calibration is None:
        halved(model, new)
    else:
        quantized(model, calibration_images(lists.calibration), new)
    seconds = _seconds((model, new), lists.validation)
    found = [
        Measured(name, _mean_iou(cfg, file, lists.validation), _size(file), seconds[file])
        for name, file in (("before", model), ("after", new))
    ]
    drop = 100 * (found[0].mean_iou - found[1].mean_iou)
    if not drop <= max_drop:
        for file in files_of(new):
            Path(file).unlink()
        raise UserError(
            f"{as_table(found)}Nothing was written: {drop:.2f} points of mean IoU are lost, and --max-drop "
            f"is {max_drop:g}. Calibrate with more images that are like those of the validation list, or "
            "raise it."
        )
    record_scores(new, {"mean_iou": found[1].mean_iou})
    return found


def as_table(found: Sequence[Measured]) -> str:
    """The measurements as lines of text."""
    lines = ["        mean IoU       size   time for an image"]
    lines += [
        f"{each.name:6}  {100 * each.mean_iou:6.2f} %  {each.size / 1e6:6.1f} MB  "
        f"{1000 * each.seconds:18.0f} ms"
        for each in found
    ]
    return "\n".join(lines) + "\n"


def calibration_images(dataset: ValDataset) -> Images:
    """Images from all over a list, at the scales of the config in turns."""
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), _MOST_IMAGES)).astype(int).tolist()
    return [partial(_image, dataset, row, turn) for turn, row in enumerate(rows)]


def _image(dataset: ValDataset, row: int, turn: int) -> Image:
    scales = dataset.as_bytes(row)["img_data"]
    image = scales[turn % len(scales)]
    if dataset.bands is not None:
        scale, shift = dataset.bands.scale_and_shift()
        image = (image + shift) / scale  # values as in the files
    found: Image = np.ascontiguousarray(image.numpy())
    return found


def _mean_iou(cfg: CfgNode, model: Path, dataset: ValDataset) -> float:
    """The score that eval_multipro.py gives the model."""
    process = ProcessInfo(0, 1, torch.device("cpu"))
    settings = scoring_settings(cfg)
    tally = score_list(
        ExportedNetwork(model),
        settings,
        dataset,
        process,
        Tally(class_table(cfg)),
        batches=batches_of_list(cfg.DATASET.list_val, cfg.VAL.batch_size),
        workers=cfg.TRAIN.workers,
    )
    return tally.matrix.mean_iou()


def _seconds(models: Sequence[Path], dataset: ValDataset) -> dict[Path, float]:
    """The median time of each model for an image, measured in turns so that other load affects all."""
    image = dataset.as_bytes(0)["img_data"][0]
    networks = {model: ExportedNetwork(model) for model in models}
    times: dict[Path, list[float]] = {model: [] for model in models}
    for number in range(_ROUNDS + 1):
        for model, network in networks.items():
            start = time.perf_counter()
            network(image)
            if number:  # the first one opens the file
                times[model].append(time.perf_counter() - start)
    return {model: statistics.median(taken) for model, taken in times.items()}


def _size(model: Path) -> int:
    return sum(Path(file).stat().st_size for file in files_of(model))
