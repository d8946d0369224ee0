"""Validation while training: the scores that eval_multipro.py would give, on the list or a part of it."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from yacs.config import CfgNode

from ...dataset import ValDataset
from ...distributed import Place
from ...ema import WeightAverage
from ...models import SegmentationModule
from ...visualize import Image, colorEncode, side_by_side
from ..evaluation.score_list import score_list
from ..setup import class_table, scoring

_SAMPLES = 4  # pictures of a validation
_SAMPLE_EDGE = 320  # pixels, of a picture's longer side


class Scores(NamedTuple):
    """Mean IoU and pixel accuracy as shares; ``samples`` are pictures of image | truth | prediction."""

    mean_iou: float
    accuracy: float
    images: int
    samples: dict[str, Image]


class Validation:
    """Scores the model of a config as it is being trained, on ``VAL.max_images`` of the validation list.

    The same images each time: chosen by ``TRAIN.seed``, in the order of the list.

    Raises: UserError for a list or a class table that can't be used.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._cfg = cfg
        self._table = class_table(cfg)
        dataset = ValDataset(cfg.DATASET.root_dataset, cfg.DATASET.list_val, cfg.DATASET)
        if 0 < cfg.VAL.max_images < len(dataset):
            random = np.random.Generator(np.random.Philox(cfg.TRAIN.seed))
            dataset = dataset.only(
                sorted(random.choice(len(dataset), cfg.VAL.max_images, replace=False).tolist())
            )
        self._dataset = dataset

    def is_due(self, epoch: int) -> bool:
        return epoch % int(self._cfg.VAL.every) == 0

    def score(self, module: SegmentationModule, place: Place) -> Scores:
        """The scores of the weights as they are, in all processes the same, samples in the first only.

        Raises: UserError for a file that can't be used.
        """
        return self._score(module, place, self._dataset)

    def try_out(self, module: SegmentationModule, place: Place) -> None:
        """Score one image, so that what would go wrong does so now."""
        self._score(module, place, self._dataset.only([0]))

    def _score(self, module: SegmentationModule, place: Place, dataset: ValDataset) -> Scores:
        samples: dict[str, Image] = {}

        def keep(index: int, item: dict[str, Any], label: np.ndarray, prediction: np.ndarray) -> None:
            if place.is_first and len(samples) < _SAMPLES:
                colors = self._table.colors
                row = [item["img_ori"], colorEncode(label, colors), colorEncode(prediction, colors)]
                samples[item["info"]] = side_by_side([_reduced(picture) for picture in row])

        # A copy, since in the module itself some layers may be frozen in evaluation mode, and stay so.
        network, settings = scoring(self._cfg, deepcopy(module).eval(), place.device)
        tally = score_list(
            network, settings, dataset, self._table, place, workers=self._cfg.TRAIN.workers, use=keep
        )
        return Scores(tally.matrix.mean_iou(), tally.matrix.pixel_accuracy(), len(dataset), samples)


def weights_to_score(
    module: SegmentationModule, average: WeightAverage | None
) -> AbstractContextManager[None]:
    """Inside the block, ``module`` has the weights that are scored and kept: the average, if there is one."""
    return average.weights_in(module) if average is not None else nullcontext()


def _reduced(picture: Image) -> Image:
    """No longer than needed to look at; without mixing the colours of classes."""
    longest = max(picture.shape[:2])
    if longest <= _SAMPLE_EDGE:
        return picture
    height, width = (max(1, side * _SAMPLE_EDGE // longest) for side in picture.shape[:2])
    return np.asarray(PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.NEAREST))
