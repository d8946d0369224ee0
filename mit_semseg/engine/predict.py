"""Prediction: what comes out for images, videos and cameras, as pictures and in other forms."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from ..data.classes import ClassTable
from ..dataset import TestDataset, scaled
from ..distributed import Place, gather_from_processes
from ..errors import InputError, UserError
from ..launch import count_processes, is_first_process, run
from ..log import get_logger, setup_logger
from .counter import Counter, say
from .loading import load
from .pipeline import Behind
from .prediction.made import Made
from .prediction.page import CardFile, drop_cards, write_page
from .prediction.plan import Job, Plan, make_plan
from .prediction.predict_video import segment_video
from .prediction.segmenting import Segmenting, describe, printable
from .prediction.writers import PAGE, Segmented, check_outputs, write
from .setup import build_scoring, check_model, check_writable, class_table, trained_weights

_WAIT_S = 30 * 24 * 3600.0  # for another process's share; one that dies is noticed at once all the same
_BEHIND = 2  # segmented images that wait to be written; they may be large


@dataclass
class Share:
    """What one process, or all of them together, have come to.

    Attributes:
        problems: what is wrong with the input at a place of the plan.
        segmented: how many inputs have their outputs.
    """

    problems: dict[int, str] = field(default_factory=dict)
    segmented: int = 0


def predict(
    cfg: CfgNode, devices: Sequence[torch.device], words: Sequence[str], *, resume: bool = False
) -> list[Path]:
    """Segment images and videos, print the classes of each, and write ``TEST.output`` into ``TEST.result``.

    Args:
        devices: one process works on each.
        words: images, folders, patterns, videos, ``-`` or a camera, see `find_inputs`.
        resume: leave out what is done.

    Returns: the files of the inputs that were done.
    Raises: UserError for a config, a checkpoint or an output folder that can't be used; InputError, after
        the others have been done, for inputs that can't be.
    """
    setup_logger()
    names = check_outputs(cfg.TEST.output)
    check_model(cfg)
    table = class_table(cfg)
    folder = Path(cfg.TEST.result)
    plan = None
    if is_first_process():
        plan = make_plan(words, names, folder, sys.stdin, resume=resume)
        _check_camera(plan, count_processes(devices))
        _announce(plan, resume=resume)
    weights = trained_weights(cfg, "TEST")
    if is_first_process():
        check_writable(folder, "TEST.result")
        if PAGE in names and not resume:
            drop_cards(folder)
    share = run(_predict, devices, cfg, weights, table, plan, timeout_s=_WAIT_S)
    if plan is None:
        return []
    problems = [share.problems[i] for i in sorted(share.problems)]
    if PAGE in names and (share.segmented or plan.done):
        page = write_page(folder, [job.input.path for job in plan.jobs], problems, earlier=resume)
        say(f"Page: {page}\n")
    if problems:
        raise InputError(_summary(problems, plan))
    return [path for job in plan.jobs for path in job.targets.values()]


def _announce(plan: Plan, *, resume: bool) -> None:
    if plan.own:
        get_logger().info("Left out: %d pictures that test.py has made", plan.own)
    if resume:
        get_logger().info("Skipped: %d of %d, which are done", len(plan.done), len(plan.jobs))


def _check_camera(plan: Plan, processes: int) -> None:
    if processes > 1 and any(job.input.kind == "camera" for job in plan.jobs):
        raise UserError("A camera needs no more than one process. Call test.py without torchrun or --procs.")


def _predict(
    place: Place, cfg: CfgNode, weights: tuple[str, str], table: ClassTable, plan: Plan | None
) -> Share:
    """One process's share of the plan, which is that of the first; what is returned is of all processes."""
    plan = gather_from_processes(plan)[0]
    assert plan is not None
    share = Share()
    if place.is_first:
        share.problems |= plan.problems
    if plan.todo():
        names = check_outputs(cfg.TEST.output)
        network, settings = build_scoring(cfg, weights, place.device)
        segmenting = Segmenting(network, settings, table, names, cfg.TEST.legend)
        cards = CardFile(Path(cfg.TEST.result), place.rank) if PAGE in names else None
        _segment_images(place, cfg, segmenting, plan, cards, share)
        _segment_videos(place, cfg, segmenting, plan, cards, share)
    total = Share()
    for each in gather_from_processes(share):
        total.problems |= each.problems
        total.segmented += each.segmented
    return total


def _segment_images(
    place: Place, cfg: CfgNode, segmenting: Segmenting, plan: Plan, cards: CardFile | None, share: Share
) -> None:
    indices = plan.share("image", place.rank, place.size)
    if not indices:
        return
    dataset = TestDataset([plan.jobs[i].input.path for i in indices], cfg.DATASET)
    items = load(dataset.as_bytes, range(len(dataset)), workers=cfg.TRAIN.workers, device=place.device)
    made = Made(Path(cfg.TEST.result))
    with Counter(len(indices), "images", enabled=place.is_first) as counter, Behind(_BEHIND) as behind:
        for index, item in zip(indices, items, strict=True):
            if isinstance(item, UserError):
                share.problems[index] = str(item)
            else:
                result = segmenting.segment(item["img_ori"], item["img_data"])
                behind.do(_finish, result, plan.jobs[index], made, cards)
                share.segmented += 1
            counter.add()


def _finish(result: Segmented, job: Job, made: Made, cards: CardFile | None) -> None:
    """All that comes after an image has been segmented."""
    write(result, job.targets)
    made.add(job.input.path, job.targets)
    shares, files = result.shares(), list(job.targets.values())
    if cards is not None:
        cards.add(job.input.path, result, shares, files)
    say(describe(job.input.path, shares, result.table, files))


def _segment_videos(
    place: Place, cfg: CfgNode, segmenting: Segmenting, plan: Plan, cards: CardFile | None, share: Share
) -> None:
    data, made = cfg.DATASET, Made(Path(cfg.TEST.result))

    def scale(image: Any) -> list[torch.Tensor]:
        return scaled(image, data.imgSizes, data.imgMaxSize, data.padding_constant)

    for kind in ("video", "camera"):
        for index in plan.share(kind, place.rank, place.size):
            job = plan.jobs[index]
            problem = segment_video(segmenting, job, scale, made, cards, shown=place.is_first)
            if problem:
                share.problems[index] = problem
            if all(path.exists() for path in job.targets.values()):
                share.segmented += 1


def _summary(problems: Sequence[str], plan: Plan) -> str:
    kinds = {job.input.kind for job in plan.jobs}
    what = "images" if kinds == {"image"} else "videos" if kinds == {"video"} else "inputs"
    part = "" if kinds == {"image"} else ", or not as a whole"
    lines = [*map(printable, problems)]
    lines.append(f"{len(problems)} of {len(plan.jobs)} {what} could not be segmented{part}.")
    return "\n".join(lines)
