"""Prediction: the outputs of a trained model for images, videos and cameras."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from yacs.config import CfgNode

from ..data.bands import Bands
from ..data.classes import ClassTable
from ..data.raster import RASTER_EXTENSIONS
from ..errors import InputError, UserError
from ..inference.checkpoints import trained_weights
from ..inference.fingerprint import prediction_fingerprint
from ..inference.load import check_model, class_table
from ..report import predictions
from ..runtime.claim import claimed
from ..runtime.launch import count_processes, is_first_process, run_processes
from ..runtime.log import get_logger, setup_logger
from ..runtime.progress import say
from ..runtime.texts import Texts
from .collected import PAGE, Content, drop_parts, write_whole
from .find_jobs import find_jobs
from .inputs import Found, Inputs, describe_unread, find_inputs
from .jobs import Jobs
from .options import PredictionOptions, prediction_options, wanted_outputs
from .own_files import is_result
from .predict_scene import check_packages
from .recorder import printable
from .share import Outcome, predict_share
from .tools import coco, cvat
from .uncertain import rank, write_ranking

_TIMEOUT_S = 30 * 24 * 3600.0  # for the share of another process; a process that dies is noticed at once


def predict(
    cfg: CfgNode,
    devices: Sequence[torch.device],
    words: Sequence[str],
    *,
    resume: bool = False,
    simplify: float | None = None,
    uncertain: int = 0,
) -> Iterator[Path]:
    """Write ``TEST.output`` for images and videos into ``TEST.result``, and print the classes of each input.

    Args:
        devices: one process works on each.
        words: images, folders, patterns, videos, ``-`` or a camera, see `find_inputs`.
        resume: skip inputs that are done.
        simplify: labelling tools get polygons, whose outlines are this far from the masks at most, in pixels.
            None: masks, without loss.
        uncertain: also write a list of as many images of which the model is least sure, and show them first
            in the page.

    Returns: the files of all inputs; nothing in a process that torchrun has started, but for rank 0.
    Raises: UserError for a config, a checkpoint or an output folder that cannot be used; InputError for
        inputs that cannot be used, after all others are done.
    """
    setup_logger(0 if is_first_process() else 1)
    with claimed(cfg.TEST.result, "written into", "TEST.result", enabled=is_first_process()):
        return _run(cfg, devices, words, resume, simplify, uncertain)


def _run(
    cfg: CfgNode,
    devices: Sequence[torch.device],
    words: Sequence[str],
    resume: bool,
    simplify: float | None,
    uncertain: int,
) -> Iterator[Path]:
    outputs = wanted_outputs(cfg, simplify, uncertain)
    check_model(cfg)
    table = class_table(cfg)
    folder = Path(cfg.TEST.result)
    bands = Bands.of(cfg.DATASET)
    # Only the first process can read standard input.
    more = RASTER_EXTENSIONS if bands else ()
    found = find_inputs(words, sys.stdin, more) if is_first_process() else None
    if found is not None and bands is not None:
        _refuse_videos(found.inputs, bands)
    weights = trained_weights(cfg, "TEST")
    made_by = prediction_fingerprint(cfg, weights, table, devices[0])
    made_by |= {"--simplify": simplify, "--uncertain": bool(uncertain) or None}
    jobs = None
    if found is not None:
        jobs = find_jobs(found.inputs, outputs, folder, made_by, resume=resume)
        _check_camera(jobs, count_processes(devices))
        if "scene" in jobs.inputs.kinds():
            check_packages(outputs)
        if uncertain:
            _refuse_all_but_images(jobs)
        _announce(jobs, resume=resume)
    options = prediction_options(
        cfg, outputs, table, weights, made_by, simplify=simplify, doubt=bool(uncertain)
    )
    if is_first_process() and not resume:
        for output in options.collected:
            drop_parts(folder, output)
    outcome = run_processes(predict_share, devices, options, jobs, timeout_s=_TIMEOUT_S)
    if jobs is None or found is None:
        return iter(())
    return _conclude(found, jobs, outcome, options, resume=resume, uncertain=uncertain)


def _conclude(
    found: Found, jobs: Jobs, outcome: Outcome, options: PredictionOptions, *, resume: bool, uncertain: int
) -> Iterator[Path]:
    """Write the outputs for all inputs, report, and return the paths of the files of each input.

    Raises: InputError if some inputs could not be used.
    """
    finished = jobs.done.copy()
    finished[np.array(outcome.written, np.int64)] = True
    count = int(finished.sum())
    problems = [*found.problems, *(outcome.problems[k] for k in sorted(outcome.problems))]
    if count:
        done = np.flatnonzero(finished)
        if uncertain:
            ranking = rank(options.folder, jobs, done.tolist(), earlier=resume)
            say(write_ranking(options.folder, jobs, ranking, uncertain))
            done = ranking.numbers
        for output in options.collected:
            path = _write_whole(
                jobs, output, done, options.table, problems, resume=resume, uncertain=uncertain
            )
            say(f"{'Page' if output == PAGE else output}: {path}\n")
    for tool, cost in outcome.costs.items():
        say(
            f"Polygons for {tool}: IoU {cost.iou():.4f} with the predicted masks "
            f"(--simplify {options.simplify:g}).\n"
        )
    others = Texts(path for path in found.unread if not is_result(path))
    if unread := describe_unread(replace(found, unread=others)):
        say(printable(f"{count} {_plural(jobs, count)} done. Not read: {unread}.") + "\n")
    if problems:
        raise InputError(_summary(problems, len(outcome.problems), jobs))
    return (path for k in range(len(jobs)) for path in jobs.targets(k).values())


def _write_whole(
    jobs: Jobs,
    output: str,
    numbers: NDArray[np.int64],
    table: ClassTable,
    problems: Sequence[str],
    *,
    resume: bool,
    uncertain: int,
) -> Path:
    """Write the page, or the file of a labelling tool, for jobs that are done, by their numbers."""

    def keys() -> Iterator[str]:
        return (jobs.key(output, k) for k in map(int, numbers))

    def pieces(lines: Content, count: int) -> Iterator[bytes]:
        if output == PAGE:
            return predictions.page(lines(), count, problems, uncertain)
        return (coco if output == "coco" else cvat).whole(lines, table)

    return write_whole(jobs.folder, output, keys, pieces, earlier=resume)


def _refuse_all_but_images(jobs: Jobs) -> None:
    others = np.flatnonzero(~jobs.inputs.of_kind("image"))
    if len(others):
        other = jobs.inputs.paths[int(others[0])]
        raise UserError(f"--uncertain ranks images, but {other} is a video or a scene. Name only images.")


def _refuse_videos(inputs: Inputs, bands: Bands) -> None:
    moving = np.flatnonzero(inputs.of_kind("video", "camera"))
    if len(moving):
        first = inputs.paths[int(moving[0])]
        raise UserError(
            f"{first} is a video, whose images are 8-bit RGB, but the model takes {bands.channels} bands "
            "with statistics of their own. Save its images as files, and name these."
        )


def _check_camera(jobs: Jobs, processes: int) -> None:
    if processes > 1 and "camera" in jobs.inputs.kinds():
        raise UserError("A camera is read by one process. Call test.py without torchrun and --procs.")


def _announce(jobs: Jobs, *, resume: bool) -> None:
    kept = np.flatnonzero(jobs.kept)
    if len(kept):
        get_logger().info(
            "Kept %d file%s of LabelMe that people have drawn or corrected, such as %s",
            len(kept),
            "s" * (len(kept) > 1),
            jobs.labelme_path(int(kept[0])),
        )
    if jobs.own_results:
        get_logger().info("Skipped %d inputs that test.py has made", jobs.own_results)
    if resume:
        get_logger().info("Skipped %d of %d inputs, which are done", jobs.done.sum(), len(jobs))
    for reason, count in jobs.again.items():
        get_logger().info("Segmenting %d of %d inputs again: %s", count, len(jobs), reason)


def _summary(problems: Sequence[str], failed: int, jobs: Jobs) -> str:
    """The problems, and how many inputs could not be segmented."""
    part = "" if jobs.inputs.kinds() <= {"image", "scene"} else ", or only in part"
    lines = [*map(printable, problems)]
    if failed:
        count = len(jobs)
        lines.append(f"{failed} of {count} {_plural(jobs)} could not be segmented{part}.")
    return "\n".join(lines)


def _plural(jobs: Jobs, count: int = 2) -> str:
    """The common name of the inputs."""
    kinds = jobs.inputs.kinds()
    return (kinds.pop() if len(kinds) == 1 and kinds <= {"image", "scene", "video"} else "input") + "s" * (
        count != 1
    )
