"""What one process does of a prediction: its share of the images, scenes and videos."""

import pickle
from array import array
from collections.abc import Sequence
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
from .inputs import Kind
from .jobs import Job, Jobs
from .options import PredictionOptions
from .predict_scene import predict_scene
from .predict_video import predict_video
from .predictor import Prediction, Predictor
from .recorder import Recorder
from .tools.areas import Cost, Shapes
from .writers import write

_WRITE_DEPTH = 2  # predictions that wait to be written; they may be large
_MOVING: tuple[Kind, ...] = ("video", "camera")


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
        share = _Share(process, options, jobs, predictor, recorder, outcome)
        share.predict_images()
        share.predict_scenes()
        share.predict_videos()
        outcome.costs = shapes.costs
    total = Outcome()
    for part in gather_from_processes(outcome):
        total.problems |= part.problems
        total.written += part.written
        for tool, cost in part.costs.items():
            total.costs.setdefault(tool, Cost(len(options.table.names))).add(cost)
    return total


@dataclass
class _Share:
    """The jobs of one process, and all that it does them with. It notes in ``outcome`` how each has ended."""

    process: ProcessInfo
    options: PredictionOptions
    jobs: Jobs
    predictor: Predictor
    recorder: Recorder
    outcome: Outcome

    def _numbers(self, kind: Kind) -> Sequence[int]:
        return self.jobs.share(kind, self.process.rank, self.process.size)

    def predict_images(self) -> None:
        numbers, outcome, is_first = self._numbers("image"), self.outcome, self.process.is_first
        if not numbers:
            return
        paths = self.jobs.inputs.paths
        files = _Files(TestDataset((paths[k] for k in numbers), self.options.images))
        rows, workers = range(len(numbers)), self.options.workers
        with (
            loading(files.read, rows, workers=workers, device=self.process.device) as items,
            ProgressCounter(len(numbers), "images", enabled=is_first) as counter,
            BackgroundWriter(_WRITE_DEPTH) as background,
        ):
            for k, item in zip(numbers, items, strict=True):
                if isinstance(item, UserError):
                    outcome.problems[k] = str(item)
                else:
                    job = replace(self.jobs[k], state=item["state"])
                    prediction = self.predictor.predict(
                        item["img_ori"],
                        item["img_data"],
                        name=job.input.path,
                        without_data=item.get("without_data"),
                    )
                    background.submit(self._finish, job, prediction, item["pages"])
                    outcome.written.append(k)
                counter.add()

    def _finish(self, job: Job, prediction: Prediction, pages: int) -> None:
        write(prediction, job.targets, self.recorder.shapes)
        self.recorder.add(job, job.input.path, prediction, prediction.shares(), pages=pages)

    def predict_scenes(self) -> None:
        scales, bands = Scales.of(self.options.images), Bands.of(self.options.images)
        for k in self._numbers("scene"):
            problem = predict_scene(
                self.predictor,
                self.jobs.reached(k),
                bands,
                scales,
                self.recorder,
                shown=self.process.is_first,
            )
            self._note(k, problem, is_written=not problem)

    def predict_videos(self) -> None:
        def scale(image: PIL.Image.Image) -> list[torch.Tensor]:
            return scaled(image, *Scales.of(self.options.images))

        for kind in _MOVING:
            for k in self._numbers(kind):
                is_written, problem = predict_video(
                    self.predictor, self.jobs.reached(k), scale, self.recorder, shown=self.process.is_first
                )
                self._note(k, problem, is_written=is_written)

    def _note(self, k: int, problem: str, *, is_written: bool) -> None:
        if problem:
            self.outcome.problems[k] = problem
        if is_written:
            self.outcome.written.append(k)


class _Files:
    """Images, each with the state of its file before it is read."""

    def __init__(self, dataset: TestDataset) -> None:
        self._dataset = dataset

    def read(self, index: int) -> dict[str, Any]:
        state = state_of_content(self._dataset.records[index].fpath_img)
        return {**self._dataset.as_bytes(index), "state": state}
