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
from ..metrics import ConfusionMatrix
from ..visualize import Image, colorEncode, save_picture, side_by_side
from .evaluation.batches import batches_of_list
from .evaluation.going_on import go_on, prepare, telling_of
from .evaluation.results import write_results
from .evaluation.score_list import score_list
from .evaluation.scored_log import ScoredLog
from .evaluation.settings_of import settings_of
from .evaluation.summary import summary
from .evaluation.tally import Tally
from .outputs import output_paths
from .setup import build_scoring, check_model, check_writable, class_table, trained_weights


def evaluate(cfg: CfgNode, devices: Sequence[torch.device]) -> ConfusionMatrix:
    """Score the trained model of ``cfg`` on its validation list, print the scores and return the matrix.

    It writes the scores and a report into ``VAL.result``, see results.py; with ``VAL.visualize`` also
    image | truth | prediction of every image. Until it is done, what was scored stands in the folder's
    subfolder ``scored``, where an evaluation with ``VAL.resume`` finds it.

    Raises: UserError for a config, a list or a file that can't be used; ProcessError for a process that dies.
    """
    setup_logger(0 if is_first_process() else 1)
    check_model(cfg)
    table = class_table(cfg)
    _dataset(cfg)  # a bad list is refused before anything starts
    weights = trained_weights(cfg, "VAL")
    folder = Path(cfg.VAL.result or Path(cfg.DIR, "result"))
    log = ScoredLog(folder / "scored", settings_of(cfg, weights, table, devices[0]))
    if is_first_process():
        check_writable(folder, "VAL.result")
        prepare(log, resume=cfg.VAL.resume)
    pictures = folder if cfg.VAL.visualize else None
    with telling_of(log):
        tally = run(_evaluate, devices, cfg, weights, table, pictures, log, timeout_s=cfg.TRAIN.timeout)
        if is_first_process():
            sys.stdout.write(summary(tally, table))
            report = write_results(folder, tally, table, cfg, weights)
            log.drop()
            sys.stdout.write(f"Report: {report}\n")
            if pictures is not None:
                sys.stdout.write(f"Pictures: {pictures}\n")
    return tally.matrix


def _dataset(cfg: CfgNode) -> ValDataset:
    return ValDataset(cfg.DATASET.root_dataset, cfg.DATASET.list_val, cfg.DATASET)


def _evaluate(
    place: Place,
    cfg: CfgNode,
    weights: tuple[str, str],
    table: ClassTable,
    pictures: Path | None,
    log: ScoredLog,
) -> Tally:
    """One process's share, every n-th batch; what is returned is of all processes."""
    setup_logger(place.rank)
    network, settings = build_scoring(cfg, weights, place.device)
    dataset = _dataset(cfg)
    targets = _targets(dataset, pictures) if pictures is not None else None
    tally = Tally(table, boundary=cfg.VAL.boundary_iou, calibration=cfg.VAL.calibration)
    start, done = go_on(log, tally, place, len(dataset))
    batches = batches_of_list(cfg.DATASET.list_val, cfg.VAL.batch_size)

    def draw(index: int, item: dict[str, Any], label: np.ndarray, prediction: np.ndarray) -> None:
        if targets is not None:
            _draw(item, label, prediction, table, targets[index])

    return score_list(
        network,
        settings,
        dataset,
        table,
        place,
        workers=cfg.TRAIN.workers,
        batches=[batch for batch in batches if batch[0] not in done],
        tally=tally,
        use=draw,
        keep=lambda results: log.keep(results, start, place.rank),
    )


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
