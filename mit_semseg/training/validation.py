"""Validation during training: the same scores as eval_multipro.py, on the whole list or a part of it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from ..data.classes import ClassTable
from ..data.datasets import ValDataset
from ..data.first_labels import check_validation_labels
from ..evaluation.score_list import Batch, score_list
from ..evaluation.tally import Tally
from ..inference.network import ScoringNetwork
from ..inference.pictures import Image, colorEncode, side_by_side
from ..inference.predict import Settings
from ..models import SegmentationModule
from ..optim.ema import WeightAverage
from ..runtime.distributed import ProcessInfo
from .sharding import whole_copy

_SAMPLES = 4  # sample pictures of a validation
_SAMPLE_EDGE = 320  # longer side of a sample picture, in pixels


class Scores(NamedTuple):
    """Mean IoU and pixel accuracy as shares, and the IoU of each class by its name; NaN if it does not occur.

    ``samples`` are pictures of image | truth | prediction by the name of the image.
    """

    mean_iou: float
    accuracy: float
    images: int
    samples: dict[str, Image]
    classes: dict[str, float]


class Validation:
    """Scores a model during its training, each time on the same images.

    Args:
        dataset: the images.
        table: names and colours of their classes.
        batches: images to score together, see `score_list`.
        settings: how an image is scored.
        every: epochs between two validations.
        workers: loader processes.
    """

    def __init__(
        self,
        dataset: ValDataset,
        table: ClassTable,
        batches: Sequence[Batch],
        settings: Settings,
        *,
        every: int,
        workers: int,
    ) -> None:
        self._dataset = dataset
        self._table = table
        self._batches = batches
        self._settings = settings
        self._every = every
        self._workers = workers

    def is_due(self, epoch: int) -> bool:
        return epoch % self._every == 0

    def score(self, module: SegmentationModule, process: ProcessInfo) -> Scores:
        """The scores of the current weights, the same in all processes; samples in the first process only.

        Raises: UserError for a file that can't be used.
        """
        return self._score(module, process, self._dataset, self._batches)

    def try_out(self, module: SegmentationModule, process: ProcessInfo) -> None:
        """Look at labels and score the first batch, so that errors show before the training starts.

        Raises: UserError for labels that cannot be used.
        """
        check_validation_labels(self._dataset, process)
        first = self._batches[0]
        self._score(module, process, self._dataset.only(first), [tuple(range(len(first)))])

    def _score(
        self, module: SegmentationModule, process: ProcessInfo, dataset: ValDataset, batches: Sequence[Batch]
    ) -> Scores:
        samples: dict[str, Image] = {}

        def draw(index: int, item: dict[str, Any], label: np.ndarray, prediction: np.ndarray) -> None:
            if process.is_first and len(samples) < _SAMPLES:
                colors = self._table.colors
                row = [item["img_ori"], colorEncode(label, colors), colorEncode(prediction, colors)]
                samples[item["info"]] = side_by_side([_reduced(picture) for picture in row])

        # A copy, because frozen layers of the module are in evaluation mode and must stay in it.
        network = ScoringNetwork.prepared(whole_copy(module).eval(), process.device, amp=self._settings.amp)
        tally = score_list(
            network,
            self._settings,
            dataset,
            process,
            Tally(self._table),
            batches=batches,
            workers=self._workers,
            on_image=draw,
        )
        classes = dict(zip(self._table.names, tally.matrix.iou().tolist(), strict=True))
        return Scores(tally.matrix.mean_iou(), tally.matrix.pixel_accuracy(), len(dataset), samples, classes)


def weights_to_score(
    module: SegmentationModule, average: WeightAverage | None
) -> AbstractContextManager[None]:
    """Inside the block, ``module`` has the weights to score and to save: the average, if there is one."""
    return average.weights_in(module) if average is not None else nullcontext()


def _reduced(picture: Image) -> Image:
    """The picture, scaled down to at most 320 pixels, without mixing the colours of classes."""
    longest = max(picture.shape[:2])
    if longest <= _SAMPLE_EDGE:
        return picture
    height, width = (max(1, side * _SAMPLE_EDGE // longest) for side in picture.shape[:2])
    return np.asarray(PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.NEAREST))
