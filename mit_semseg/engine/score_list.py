"""Scoring a list of labelled images, each process its share of it."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.classes import ClassTable
from ..dataset import ValDataset
from ..distributed import Place
from ..inference import ScoringNetwork, Settings, predict_confident_labels, predict_labels
from .batches import Batch, alike
from .loading import load, naming_dead_workers, raise_errors
from .scored import Scored
from .scoring_progress import ScoringProgress
from .tally import Tally

Use = Callable[[int, dict[str, Any], np.ndarray, np.ndarray], None]


def score_list(
    network: ScoringNetwork,
    settings: Settings,
    dataset: ValDataset,
    table: ClassTable,
    place: Place,
    *,
    workers: int,
    batches: Sequence[Batch] | None = None,
    tally: Tally | None = None,
    use: Use | None = None,
    keep: Callable[[Sequence[Scored]], None] | None = None,
) -> Tally:
    """The scores of a network on a dataset; every process takes every n-th batch.

    Args:
        workers: loader processes, see `load`.
        batches: images to score together where they turn out to be of one size; left out: each by itself.
        tally: what to add to, which says what is asked for besides the confusion matrix; left out: nothing.
        use: called for each image of this process with its index, the item of the dataset, the label and the
            predicted classes, both (H, W).
        keep: called with the results on each batch of this process, after ``use``.

    Returns: the scores of all processes, the same in each of them.
    Raises: UserError for a file that can't be used, ProcessError for a loader process that dies.
    """
    tally = Tally(table) if tally is None else tally
    batches = [(index,) for index in range(len(dataset))] if batches is None else batches
    mine = batches[place.rank :: place.size]
    indices = [index for batch in mine for index in batch]
    done = len(tally.images)
    with naming_dead_workers(), ScoringProgress(place, done + len(indices), done, tally.matrix) as progress:
        items = raise_errors(load(dataset.__getitem__, indices, workers=workers, device=place.device))
        start = time.perf_counter()
        for batch in mine:
            loaded = dict(zip(batch, islice(items, len(batch)), strict=True))
            results = []
            for alike_ones in alike([_shapes(item) for item in loaded.values()]):
                group = {batch[position]: loaded[batch[position]] for position in alike_ones}
                predictions, confidences = _predict(network, settings, list(group.values()), tally)
                for k, (index, item) in enumerate(group.items()):
                    label, prediction = item["seg_label"][0].numpy(), predictions[k].numpy()
                    confidence = None if confidences is None else confidences[k].numpy()
                    scored = tally.score(index, item, label, prediction, confidence)
                    tally.include(scored)
                    results.append(scored)
                    if use is not None:
                        use(index, item, label, prediction)
            if keep is not None:
                keep(results)
            progress.step(len(batch))
        tally.seconds = time.perf_counter() - start
        tally.timed = len(indices)
    return tally.gathered()


def _shapes(item: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(part.shape) for part in (item["seg_label"], *item["img_data"]))


def _predict(
    network: ScoringNetwork, settings: Settings, items: Sequence[dict[str, Any]], tally: Tally
) -> tuple[Tensor, Tensor | None]:
    """Classes of items of one size, (B, H, W), and their probabilities if they are asked for."""
    scales = [item["img_data"] for item in items]
    images = scales[0] if len(items) == 1 else [torch.cat(scale) for scale in zip(*scales, strict=True)]
    size = tuple(items[0]["seg_label"].shape[1:])
    if tally.calibration is None:
        return predict_labels(network, images, size, settings), None
    return predict_confident_labels(network, images, size, settings)
