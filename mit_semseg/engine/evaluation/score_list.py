"""Scoring a list of labelled images, each process its share of it."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from ...data.classes import ClassTable
from ...dataset import ValDataset
from ...distributed import Place
from ...inference import ScoringNetwork, Settings, predict_confident_labels, predict_labels
from ...scoring.threads import each_alone
from ..counter import Counter
from ..loading import load, naming_dead_workers, raise_errors
from .batches import Batch, alike
from .scored import Scored
from .tally import Tally

_AHEAD = 1  # batches that wait for each thread, with their images

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
    # On a CPU, an image a thread: convolutions are rounded differently by several threads than by one, and
    # the scores would depend on the number of processes, which share the cores.
    threads = torch.get_num_threads() if place.device.type == "cpu" else 1
    what = "Evaluating" if place.size == 1 else f"Evaluating (process 1 of {place.size})"
    counter = Counter(
        done + len(indices),
        "images",
        what=what,
        done=done,
        note=lambda: f"mean IoU {tally.matrix.mean_iou():.4f}",
        enabled=place.is_first,
    )
    with naming_dead_workers(), counter:
        items = raise_errors(load(dataset.as_bytes, indices, workers=workers, device=place.device))
        loaded = ((list(islice(items, len(batch))),) for batch in mine)

        def predict(images: list[dict[str, Any]]) -> list[_Predicted]:
            return _predict_all(network, settings, images, confident=tally.calibration is not None)

        start = time.perf_counter()
        for batch, predicted in zip(
            mine, each_alone(predict, loaded, threads=threads, ahead=_AHEAD), strict=True
        ):
            results = []
            for index, (item, prediction, confidence) in zip(batch, predicted, strict=True):
                label = item["seg_label"][0].numpy()
                results.append(tally.score(index, item, label, prediction, confidence))
                tally.include(results[-1])
                if use is not None:
                    use(index, item, label, prediction)
            if keep is not None:
                keep(results)
            counter.add(len(batch))
        tally.seconds = time.perf_counter() - start
        tally.timed = len(indices)
    return tally.gathered()


class _Predicted(NamedTuple):
    """An item, its classes (H, W), and their probabilities if they were asked for."""

    item: dict[str, Any]
    classes: np.ndarray
    confidence: np.ndarray | None


def _predict_all(
    network: ScoringNetwork, settings: Settings, items: list[dict[str, Any]], *, confident: bool
) -> list[_Predicted]:
    """What the network makes of each item of a batch; those of one size go through it together."""
    found: dict[int, _Predicted] = {}
    for positions in alike([_shapes(item) for item in items]):
        group = [items[position] for position in positions]
        scales = [item["img_data"] for item in group]
        images = scales[0] if len(group) == 1 else [torch.cat(scale) for scale in zip(*scales, strict=True)]
        size = tuple(group[0]["seg_label"].shape[1:])
        if confident:
            classes, confidence = predict_confident_labels(network, images, size, settings)
        else:
            classes, confidence = predict_labels(network, images, size, settings), None
        for k, position in enumerate(positions):
            shares = None if confidence is None else confidence[k].numpy()
            found[position] = _Predicted(items[position], classes[k].numpy(), shares)
    return [found[position] for position in range(len(items))]


def _shapes(item: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(part.shape) for part in (item["seg_label"], *item["img_data"]))
