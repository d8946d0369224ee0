"""What one process does of a prediction: its share of the images, scenes and videos."""

import pickle
from array import array
from dataclasses import dataclass, field, replace
from typing import Any

import PIL.Image
import torch

from ..data.bands import Bands
from ..data.datasets import TestDataset, scaled
from ..data.loader import loading
from ..data.resize import Scales
from ..data.shards import state_of_content
from ..errors import UserError
from ..inference.load import load_network
from ..runtime.distributed import ProcessInfo, broadcast_bytes, gather_from_processes, require_equal
from ..runtime.progress import ProgressCounter
from ..runtime.threads import BackgroundWriter
from .jobs import Job, Jobs
from .options import PredictionOptions
from .predict_scene import predict_scene
from .predict_video import predict_video
from .predictor import Prediction, Predictor
from .recorder import Recorder
from .tools.areas import Cost, Shapes
from .writers import write

_WRITE_DEPTH = 2  # predictions that wait to be written; they may be large


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


def predict_share(process: ProcessInfo, options: PredictionOptions, jobs: Jobs | None) -> Outcome:
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
