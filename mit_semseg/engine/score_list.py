"""Scoring a list of labelled images, each process its share of it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.classes import ClassTable
from ..dataset import ValDataset
from ..distributed import Place
from ..inference import ScoringNetwork, Settings, predict_labels
from .loading import load, raise_errors
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
    use: Use | None = None,
) -> Tally:
    """The scores of a network on all of a dataset; every process takes every n-th image.

    Args:
        workers: loader processes, see `load`.
        use: called for each image of this process with its index, the item of the dataset, the label and the
            predicted classes, both (H, W).

    Returns: the scores of all processes, the same in each of them.
    Raises: UserError for a file that can't be used.
    """
    indices = range(place.rank, len(dataset), place.size)
    tally = Tally(table)
    items = raise_errors(load(dataset.__getitem__, indices, workers=workers, device=place.device))
    with tqdm(
        items, total=len(indices), desc="Evaluating", unit="img", disable=None if place.is_first else True
    ) as bar:
        start = time.perf_counter()
        for index, item in zip(indices, bar, strict=True):
            label = item["seg_label"][0].numpy()
            prediction = predict_labels(network, item["img_data"], label.shape, settings)[0].numpy()
            tally.add(index, item, label, prediction)
            bar.set_postfix(mean_iou=f"{tally.matrix.mean_iou():.4f}", refresh=False)
            if use is not None:
                use(index, item, label, prediction)
        tally.seconds = time.perf_counter() - start
    return tally.gathered()
