"""Prediction: the outputs of a trained model for images, videos and cameras."""

import pickle
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from yacs.config import CfgNode

from ..data.bands import Bands
from ..data.classes import ClassTable
from ..data.datasets import TestDataset, scaled
from ..data.loader import loading
from ..data.raster import RASTER_EXTENSIONS
from ..data.resize import Scales
from ..data.shards import state_of_content
from ..errors import InputError, UserError
from ..inference.checkpoints import Weights, trained_weights
from ..inference.fingerprint import Fingerprint, prediction_fingerprint
from ..inference.load import check_model, class_table, load_network, model_spec, scoring_settings
from ..inference.predict import Settings
from ..models import ModelSpec
from ..report import predictions
from ..runtime.claim import claimed
from ..runtime.distributed import ProcessInfo, broadcast_bytes, gather_from_processes, require_equal
from ..runtime.launch import count_processes, is_first_process, run_processes
from ..runtime.log import get_logger, setup_logger
from ..runtime.progress import ProgressCounter, say
from ..runtime.texts import Texts
from ..runtime.threads import BackgroundWriter
from .collected import COLLECTED, PAGE, Content, drop_parts, write_whole
from .find_jobs import find_jobs
from .inputs import Found, Inputs, describe_unread, find_inputs
from .jobs import Job, Jobs
from .own_files import is_result
from .predict_scene import check_packages, predict_scene
from .predict_video import predict_video
from .predictor import Prediction, Predictor
from .recorder import Recorder, printable
from .tools import coco, cvat
from .tools.areas import Cost, Shapes
from .tools.outlines import opencv
from .uncertain import rank, write_ranking
from .writers import TOOLS, check_outputs, write

_TIMEOUT_S = 30 * 24 * 3600.0  # for the share of another process; a process that dies is noticed at once
_WRITE_DEPTH = 2  # predictions that wait to be written; they may be large


class ImageOptions(NamedTuple):
    """How images are read and at which sizes they are scored, by the names that `TestDataset` reads."""

    imgSizes: tuple[int, ...]  # short edges, in pixels
    imgMaxSize: int  # limit of the long edge
    padding_constant: int  # sides are rounded up to multiples of it
    window: int  # side of the windows of scenes that the model was trained on; 0: images
    channels: int
    # The keys of bands in the section DATASET.
    bands: tuple[int, ...]
    nodata: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip_low: tuple[float, ...]
    clip_high: tuple[float, ...]
    display_bands: tuple[int, ...]


@dataclass(frozen=True)
class PredictionOptions:
    """All that the processes of a prediction need, so that they do not read the config.

    Attributes:
        model: to build.
        weights: the checkpoint files of encoder and decoder, or the files of an exported model.
        settings: how an image is scored.
        table: names and colours of the classes.
        images: how they are read, and the sizes at which they are scored.
        folder: of the outputs.
        outputs: their names.
        legend: whether pictures have a legend.
        simplify: of polygons for labelling tools, in pixels; None for masks.
        doubt: whether to measure how unsure the model is.
        workers: loader processes.
        fingerprint: all that the outputs depend on, besides the inputs.
    """

    model: ModelSpec
    weights: Weights
    settings: Settings
    table: ClassTable
    images: ImageOptions
    folder: Path
    outputs: list[str]
    legend: bool
    simplify: float | None
    doubt: bool
    workers: int
    fingerprint: Fingerprint

    @property
    def collected(self) -> list[str]:
        """The outputs that are one file for all inputs."""
        return [name for name in self.outputs if name in COLLECTED]


@dataclass
class Outcome:
    """The outcome of one process's share of the jobs, or of all jobs.

    Attributes:
        problems: a sentence for each input with a problem, by the number of its job.
        written: the numbers of the jobs whose outputs were written, in any order.
        costs: of the polygons, by labelling tool.
    """

    problems: dict[int, str] = field(default_factory=dict)
    written: "array[int]" = field(default_factory=lambda: array("q"))
    costs: dict[str, Cost] = field(default_factory=dict)


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
    outputs = _outputs(cfg, simplify, uncertain)
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
    options = PredictionOptions(
        model=model_spec(cfg),
        weights=weights,
        settings=scoring_settings(cfg),
        table=table,
        images=ImageOptions(**{name: cfg.DATASET[name] for name in ImageOptions._fields}),
        folder=folder,
        outputs=outputs,
        legend=cfg.TEST.legend,
        simplify=simplify,
        doubt=bool(uncertain),
        workers=cfg.TRAIN.workers,
        fingerprint=made_by,
    )
    if is_first_process() and not resume:
        for output in options.collected:
            drop_parts(folder, output)
    outcome = run_processes(_predict, devices, options, jobs, timeout_s=_TIMEOUT_S)
    if jobs is None or found is None:
        return iter(())
    return _conclude(found, jobs, outcome, options, resume=resume, uncertain=uncertain)


def _outputs(cfg: CfgNode, simplify: float | None, uncertain: int) -> list[str]:
    """The outputs to make. Raises: UserError for one that does not exist, or does not fit the options."""
    outputs = check_outputs(cfg.TEST.output)
    if uncertain and PAGE not in outputs:
        outputs.append(PAGE)
    if simplify is not None:
        if not set(outputs) & set(TOOLS):
            raise UserError(
                f"--simplify is for the outputs {', '.join(TOOLS)}. Set TEST.output to one of them."
            )
        opencv()  # its absence is reported before the work, not after it
    return outputs


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


def _predict(process: ProcessInfo, options: PredictionOptions, jobs: Jobs | None) -> Outcome:
    """Do this process's share of the jobs, which the first process has found. Returns the whole outcome."""
    require_equal(options.fingerprint, "predict with the same model")
    if not all(gather_from_processes(jobs is not None)):  # torchrun has started the processes
        jobs = pickle.loads(broadcast_bytes(pickle.dumps(jobs) if process.is_first else b""))
    assert jobs is not None
    outcome = Outcome()
    if process.is_first:
        outcome.problems |= jobs.problems
    if jobs.pending().any():
        network = load_network(options.model, options.weights, process.device, options.settings.amp)
        predictor = Predictor(
            network,
            options.settings,
            options.table,
            probabilities="scores" in options.outputs,
            legend=options.legend,
            doubt=options.doubt,
        )
        shapes = Shapes(len(options.table.names), options.simplify)
        recorder = Recorder(options.folder, options.fingerprint, process.rank, options.outputs, shapes)
        _predict_images(process, options, jobs, predictor, recorder, outcome)
        _predict_scenes(process, options, jobs, predictor, recorder, outcome)
        _predict_videos(process, options, jobs, predictor, recorder, outcome)
        outcome.costs = shapes.costs
    total = Outcome()
    for share in gather_from_processes(outcome):
        total.problems |= share.problems
        total.written += share.written
        for tool, cost in share.costs.items():
            total.costs.setdefault(tool, Cost(len(options.table.names))).add(cost)
    return total


def _predict_images(
    process: ProcessInfo,
    options: PredictionOptions,
    jobs: Jobs,
    predictor: Predictor,
    recorder: Recorder,
    outcome: Outcome,
) -> None:
    numbers = jobs.share("image", process.rank, process.size)
    if not numbers:
        return
    files = _Files(TestDataset((jobs.inputs.paths[k] for k in numbers), options.images))
    rows, workers = range(len(numbers)), options.workers
    with (
        loading(files.read, rows, workers=workers, device=process.device) as items,
        ProgressCounter(len(numbers), "images", enabled=process.is_first) as counter,
        BackgroundWriter(_WRITE_DEPTH) as background,
    ):
        for k, item in zip(numbers, items, strict=True):
            if isinstance(item, UserError):
                outcome.problems[k] = str(item)
            else:
                job = replace(jobs[k], state=item["state"])
                prediction = predictor.predict(
                    item["img_ori"],
                    item["img_data"],
                    name=job.input.path,
                    without_data=item.get("without_data"),
                )
                background.submit(_finish, job, prediction, recorder, item["pages"])
                outcome.written.append(k)
            counter.add()


class _Files:
    """Images, each with the state of its file before it is read."""

    def __init__(self, dataset: TestDataset) -> None:
        self._dataset = dataset

    def read(self, index: int) -> dict[str, Any]:
        state = state_of_content(self._dataset.records[index].fpath_img)
        return {**self._dataset.as_bytes(index), "state": state}


def _finish(job: Job, prediction: Prediction, recorder: Recorder, pages: int) -> None:
    write(prediction, job.targets, recorder.shapes)
    recorder.add(job, job.input.path, prediction, prediction.shares(), pages=pages)


def _predict_scenes(
    process: ProcessInfo,
    options: PredictionOptions,
    jobs: Jobs,
    predictor: Predictor,
    recorder: Recorder,
    outcome: Outcome,
) -> None:
    scales, bands = Scales.of(options.images), Bands.of(options.images)
    for k in jobs.share("scene", process.rank, process.size):
        problem = predict_scene(predictor, jobs.reached(k), bands, scales, recorder, shown=process.is_first)
        if problem:
            outcome.problems[k] = problem
        else:
            outcome.written.append(k)


def _predict_videos(
    process: ProcessInfo,
    options: PredictionOptions,
    jobs: Jobs,
    predictor: Predictor,
    recorder: Recorder,
    outcome: Outcome,
) -> None:
    def scale(image: PIL.Image.Image) -> list[torch.Tensor]:
        return scaled(image, *Scales.of(options.images))

    for kind in ("video", "camera"):
        for k in jobs.share(kind, process.rank, process.size):
            job = jobs.reached(k)
            is_written, problem = predict_video(predictor, job, scale, recorder, shown=process.is_first)
            if problem:
                outcome.problems[k] = problem
            if is_written:
                outcome.written.append(k)


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
