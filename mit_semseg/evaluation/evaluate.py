"""Evaluation: the scores of a trained model on the validation list."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from ..config import with_keys
from ..config.keys import KEYS, value_of
from ..data.classes import ClassTable
from ..data.datasets import ValDataset
from ..data.first_labels import check_validation_labels
from ..data.remote import as_path
from ..data.shards import state_of_content
from ..inference.checkpoints import Weights, trained_weights
from ..inference.fingerprint import evaluation_fingerprint
from ..inference.load import check_model, class_table, load_network, model_spec, scoring_settings
from ..inference.pictures import Image, colorEncode, save_picture, side_by_side
from ..inference.predict import Settings
from ..metrics.confusion import ConfusionMatrix
from ..models import ModelSpec
from ..runtime.claim import claimed
from ..runtime.distributed import ProcessInfo, require_equal
from ..runtime.launch import is_first_process, run_processes
from ..runtime.log import setup_logger
from ..runtime.output_paths import output_paths
from ..tracking import report_results
from .journal import Journal
from .results import overall_scores, summary, write_results
from .score_list import Batch, batches_of_list, score_list
from .tally import Tally


@dataclass(frozen=True)
class EvaluationOptions:
    """All that the processes of an evaluation need, so that they do not read the config.

    Attributes:
        model: to build.
        weights: the checkpoint files of encoder and decoder, or the files of an exported model.
        settings: how an image is scored.
        table: names and colours of the classes.
        dataset: the images.
        batches: images to score together.
        boundary, calibration, threshold: whether to count these, too, see `Tally`.
        pictures: a file for each image's picture of image | truth | prediction; None for no pictures.
        workers: loader processes.
    """

    model: ModelSpec
    weights: Weights
    settings: Settings
    table: ClassTable
    dataset: ValDataset
    batches: list[Batch]
    boundary: bool
    calibration: bool
    threshold: bool
    pictures: list[Path] | None
    workers: int


def evaluate(cfg: CfgNode, devices: Sequence[torch.device]) -> ConfusionMatrix:
    """Score the trained model of ``cfg`` on its validation list, print the scores and return the matrix.

    Writes the scores and a report into ``VAL.result``, see results.py; with ``VAL.visualize`` also a picture
    of image | truth | prediction for every image. While it runs, the results so far are in the subfolder
    ``scored``. After it was killed, ``VAL.resume`` resumes from there.

    Raises: UserError for a config, a list or a file that cannot be used; ProcessError if a process dies.
    """
    setup_logger(0 if is_first_process() else 1)
    folder = Path(cfg.VAL.result or Path(cfg.DIR, "result"))
    options = _options(cfg, folder)
    journal = Journal(
        folder / "scored",
        evaluation_fingerprint(cfg, options.weights, options.table, devices[0]),
        [[state_of_content(file) for file in options.dataset.files(k)] for k in range(len(options.dataset))],
    )
    with claimed(folder, "written into", "VAL.result", enabled=is_first_process()):
        tally = _run(cfg, devices, options, journal, folder)
    return tally.matrix


def _run(
    cfg: CfgNode, devices: Sequence[torch.device], options: EvaluationOptions, journal: Journal, folder: Path
) -> Tally:
    """Score the list in all processes and write the results."""
    table, weights = options.table, options.weights
    if is_first_process():
        journal.prepare(resume=cfg.VAL.resume)
    with journal.hinting_at_resume():
        tally = run_processes(_evaluate, devices, options, journal, timeout_s=cfg.TRAIN.timeout)
        if is_first_process():
            # A resumed evaluation writes the same files as an uninterrupted one.
            recorded = with_keys(cfg, {"VAL.resume": False})
            try:
                report = write_results(folder, tally, table, recorded, weights)
            finally:  # only then, because nobody may read the output any more
                sys.stdout.write(summary(tally, table))
            journal.delete()
            sys.stdout.write(f"Report: {report}\n")
            _report_to_trackers(cfg, tally, table, weights, [report, folder / "metrics.json"])
            if options.pictures is not None:
                sys.stdout.write(f"Pictures: {folder}\n")
    return tally


def _report_to_trackers(
    cfg: CfgNode, tally: Tally, table: ClassTable, weights: Sequence[str], files: Sequence[Path]
) -> None:
    epoch = re.search(r"_epoch_(\d+)\.pth$", weights[0])
    per_class = zip(table.names, tally.matrix.iou().tolist(), strict=True)
    report_results(
        cfg.TRAIN.trackers,
        Path(cfg.DIR),
        {key.name: value_of(cfg, key) for key in KEYS},
        int(epoch[1]) * cfg.TRAIN.epoch_iters if epoch else 0,
        {f"eval/{name}": score for name, score in overall_scores(tally).items()}
        | {f"eval/iou/{name}": iou for name, iou in per_class},
        files,
    )


def _options(cfg: CfgNode, folder: Path) -> EvaluationOptions:
    """The options of a config, whose files have been checked.

    Raises: UserError for a model, a class table, a list or a checkpoint that cannot be used.
    """
    check_model(cfg)
    table = class_table(cfg)
    dataset = ValDataset(cfg.DATASET.root_dataset, cfg.DATASET.list_val, cfg.DATASET)
    return EvaluationOptions(
        model=model_spec(cfg),
        weights=trained_weights(cfg, "VAL"),
        settings=scoring_settings(cfg),
        table=table,
        dataset=dataset,
        batches=batches_of_list(cfg.DATASET.list_val, cfg.VAL.batch_size),
        boundary=cfg.VAL.boundary_iou,
        calibration=cfg.VAL.calibration,
        threshold=cfg.VAL.threshold == "auto",
        pictures=_picture_paths(dataset, folder) if cfg.VAL.visualize else None,
        workers=cfg.TRAIN.workers,
    )


def _picture_paths(dataset: ValDataset, folder: Path) -> list[Path]:
    """The path of each image's picture, in the image's subfolder. All are inside ``folder``."""
    parts = [Path(as_path(record.fpath_img)).parts for record in dataset.records]
    names = ["/".join(part for part in path if part not in ("/", "..")) or "image" for path in parts]
    return output_paths([f"./{name}" for name in names], ["."], folder)


def _evaluate(process: ProcessInfo, options: EvaluationOptions, journal: Journal) -> Tally:
    """Score this process's share of the batches. Returns the tally of all processes."""
    setup_logger(process.rank)
    require_equal(journal.fingerprint, "evaluate the same")
    check_validation_labels(options.dataset, process)
    network = load_network(options.model, options.weights, process.device, options.settings.amp)
    tally = Tally(
        options.table,
        boundary=options.boundary,
        calibration=options.calibration,
        threshold=options.threshold,
    )
    start, done = journal.resume(tally, process)

    def draw(index: int, item: dict[str, Any], label: np.ndarray, prediction: np.ndarray) -> None:
        if options.pictures is not None:
            _draw(item["img_ori"], label, prediction, options.table, options.pictures[index])

    return score_list(
        network,
        options.settings,
        options.dataset,
        process,
        tally,
        batches=[batch for batch in options.batches if batch[0] not in done],
        workers=options.workers,
        on_image=draw,
        on_batch=lambda results: journal.append(results, start, process.rank),
    )


def _draw(image: Image, label: np.ndarray, prediction: np.ndarray, table: ClassTable, path: Path) -> None:
    row = [image, colorEncode(label, table.colors), colorEncode(prediction, table.colors)]
    save_picture(side_by_side(row), path)
