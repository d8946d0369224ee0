"""Evaluation: one integer confusion matrix over the validation list."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from ..data.classes import ClassTable
from ..dataset import ValDataset
from ..distributed import Place
from ..launch import is_first_process, run
from ..log import setup_logger
from ..metrics import METRICS, ConfusionMatrix
from ..visualize import Image, colorEncode, save_picture, side_by_side
from .outputs import output_paths
from .results import write_results
from .score_list import score_list
from .setup import build_scoring, check_model, check_writable, class_table, trained_weights
from .tally import Tally


def evaluate(cfg: CfgNode, devices: Sequence[torch.device]) -> ConfusionMatrix:
    """Score the trained model of ``cfg`` on its validation list, print the scores and return the matrix.

    It writes the scores and a report into ``VAL.result``, see results.py; with ``VAL.visualize`` also
    image | truth | prediction of every image.

    Raises: UserError for a config, a list or a file that can't be used.
    """
    setup_logger()
    check_model(cfg)
    table = class_table(cfg)
    dataset = _dataset(cfg)
    weights = trained_weights(cfg, "VAL")
    folder = Path(cfg.VAL.result or Path(cfg.DIR, "result"))
    if is_first_process():
        check_writable(folder, "VAL.result")
    pictures = folder if cfg.VAL.visualize else None
    tally = run(_evaluate, devices, cfg, weights, table, pictures, timeout_s=cfg.TRAIN.timeout)
    if is_first_process():
        sys.stdout.write(summary(tally.matrix, table, images=len(dataset)))
        report = write_results(folder, tally, table, cfg, weights)
        sys.stdout.write(f"Report: {report}\n")
        if pictures is not None:
            sys.stdout.write(f"Pictures: {pictures}\n")
    return tally.matrix


def _dataset(cfg: CfgNode) -> ValDataset:
    return ValDataset(cfg.DATASET.root_dataset, cfg.DATASET.list_val, cfg.DATASET)


def _evaluate(
    place: Place, cfg: CfgNode, weights: tuple[str, str], table: ClassTable, pictures: Path | None
) -> Tally:
    """One process's share, every n-th image; what is returned is of all processes."""
    network, settings = build_scoring(cfg, weights, place.device)
    dataset = _dataset(cfg)
    targets = _targets(dataset, pictures) if pictures is not None else None

    def draw(index: int, item: dict[str, Any], label: np.ndarray, prediction: np.ndarray) -> None:
        if targets is not None:
            _draw(item, label, prediction, table, targets[index])

    return score_list(network, settings, dataset, table, place, workers=cfg.TRAIN.workers, use=draw)


def _draw(
    item: dict[str, Any], label: np.ndarray, prediction: np.ndarray, table: ClassTable, target: Path
) -> None:
    original: Image = item["img_ori"]
    row = [original, colorEncode(label, table.colors), colorEncode(prediction, table.colors)]
    save_picture(side_by_side(row), target)


def _targets(dataset: ValDataset, folder: Path) -> list[Path]:
    """The picture of each image, in the subfolder that the list gives it; none leads out of ``folder``."""
    parts = [Path(record.fpath_img).parts for record in dataset.records]
    names = ["/".join(part for part in path if part not in ("/", "..")) for path in parts]
    return output_paths([f"./{name}" for name in names], ["."], folder)


def summary(matrix: ConfusionMatrix, table: ClassTable, images: int) -> str:
    """The scores as a text: a line a class, then the metrics over all."""
    iou, recall, pixels = matrix.iou(), matrix.recall(), matrix.counts.sum(1)
    width = max(len(name) for name in (*table.names, *METRICS))
    lines = [f"{'class':{width}}     IoU  accuracy        pixels"]
    for name, a, b, count in zip(table.names, iou, recall, pixels, strict=True):
        lines.append(f"{name:{width}}  {_score(a)}    {_score(b)}  {count:12,}")
    lines += ["", *(f"{name:{width}}  {_score(metric(matrix))}" for name, metric in METRICS.items())]
    lines += [
        "",
        f"[Eval Summary]: {images} images",
        f"Mean IoU: {matrix.mean_iou():.4f}, Accuracy: {100 * matrix.pixel_accuracy():.2f}%",
    ]
    return "\n".join(lines) + "\n"


def _score(value: float) -> str:
    return "     -" if np.isnan(value) else f"{value:6.4f}"
