"""Scoring a list of labelled images, which any number of processes share."""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from ..data.datasets import ValDataset
from ..data.loader import loading, raise_errors
from ..data.records import read_records
from ..inference.exported import AnyNetwork
from ..inference.predict import Settings, predict_confident_labels, predict_labels
from ..runtime.distributed import ProcessInfo
from ..runtime.progress import ProgressCounter
from ..runtime.threads import map_single_threaded
from .tally import ImageResult, Tally

_PREFETCH = 1  # batches of loaded images that wait for each thread

Batch = tuple[int, ...]
"""Indices of images that are scored together, ascending."""

OnImage = Callable[[int, dict[str, Any], np.ndarray, np.ndarray], None]
OnBatch = Callable[[Sequence[ImageResult]], None]


class _Predicted(NamedTuple):
    """An item of the dataset, its classes (H, W), and their probabilities if they were asked for."""

    item: dict[str, Any]
    classes: np.ndarray
    confidence: np.ndarray | None


def batches_of_list(path: str, batch_size: int, rows: Sequence[int] | None = None) -> list[Batch]:
    """The images of a list in batches of one image size.

    Args:
        batch_size: upper limit of a batch.
        rows: the images to take, all by default. The batches hold positions in ``rows``.

    Raises: UserError for a list that cannot be used.
    """
    sizes = ("width", "height") if batch_size > 1 else ()  # else wrong sizes do not matter
    records = read_records(path, required=("fpath_img",), optional=sizes)
    chosen = records if rows is None else records.take(rows)
    return batches_of_sizes([(record.width, record.height) for record in chosen], batch_size)


def batches_of_sizes(sizes: Iterable[tuple[int, int]], batch_size: int) -> list[Batch]:
    """Batches of images of one size, ordered by their first image.

    They depend only on the arguments, so that any number of processes scores the same batches: in another
    batch, an image may be rounded differently.

    Args:
        sizes: width and height of each image. An image with an unknown size, 0, is a batch by itself.
        batch_size: upper limit of a batch.

    >>> batches_of_sizes([(4, 3), (3, 4), (4, 3), (0, 0), (0, 0), (4, 3)], batch_size=2)
    [(0, 2), (1,), (3,), (4,), (5,)]
    """
    batches: list[list[int]] = []
    latest: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        batch = latest.get(size) if all(size) else None
        if batch is None or len(batch) == batch_size:
            batch = latest[size] = []
            batches.append(batch)
        batch.append(index)
    return [tuple(batch) for batch in batches]


def score_list(
    network: AnyNetwork,
    settings: Settings,
    dataset: ValDataset,
    process: ProcessInfo,
    tally: Tally,
    *,
    batches: Sequence[Batch],
    workers: int,
    on_image: OnImage | None = None,
    on_batch: OnBatch | None = None,
) -> Tally:
    """Add the scores of a network on a dataset to ``tally``. Of n processes, each takes every n-th batch.

    Args:
        tally: of this process. It determines what is counted besides the confusion matrix.
        batches: images to score together. Those that have different sizes after all are scored separately.
        workers: loader processes, see `loading`.
        on_image: called for each image of this process with its index, the item of the dataset, the label and
            the predicted classes, both (H, W).
        on_batch: called with the results on each batch of this process, after ``on_image``.

    Returns: the sum of the tallies of all processes, the same in each of them.
    Raises: UserError for a file that cannot be used, or for scores that are not finite; ProcessError for a
        loader process that dies.
    """
    mine = batches[process.rank :: process.size]
    indices = [index for batch in mine for index in batch]
    done = len(tally.images)
    # On a CPU, each thread takes a batch of its own. The rounding of a convolution depends on the number of
    # threads that share it, so the scores would depend on the number of processes, which share the cores.
    threads = torch.get_num_threads() if process.device.type == "cpu" else 1
    what = "Evaluating" if process.size == 1 else f"Evaluating (process 1 of {process.size})"
    counter = ProgressCounter(
        done + len(indices),
        "images",
        what=what,
        done=done,
        note=lambda: f"mean IoU {tally.matrix.mean_iou():.4f}",
        enabled=process.is_first,
    )

    def predict(items: list[dict[str, Any]]) -> list[_Predicted]:
        return _predict_batch(network, settings, items, confident=tally.needs_confidence)

    with loading(dataset.as_bytes, indices, workers=workers, device=process.device) as items, counter:
        images = raise_errors(items)
        loaded = ((list(islice(images, len(batch))),) for batch in mine)
        start = time.perf_counter()
        for batch, predicted in zip(
            mine, map_single_threaded(predict, loaded, threads=threads, depth=_PREFETCH), strict=True
        ):
            results = []
            for index, (item, classes, confidence) in zip(batch, predicted, strict=True):
                label = item["seg_label"][0].numpy()
                result = tally.score(index, item, label, classes, confidence)
                tally.include(result)
                results.append(result)
                if on_image is not None:
                    on_image(index, item, label, classes)
            if on_batch is not None:
                on_batch(results)
            counter.add(len(batch))
        tally.seconds = time.perf_counter() - start
        tally.timed = len(indices)
    return tally.gathered()


def _predict_batch(
    network: AnyNetwork, settings: Settings, items: list[dict[str, Any]], *, confident: bool
) -> list[_Predicted]:
    """The predictions for the items of a batch, in their order; items of one size are predicted together."""
    found: dict[int, _Predicted] = {}
    for positions in group_equal([_shapes(item) for item in items]):
        group = [items[position] for position in positions]
        scales = [item["img_data"] for item in group]
        images = scales[0] if len(group) == 1 else [torch.cat(scale) for scale in zip(*scales, strict=True)]
        size = tuple(group[0]["seg_label"].shape[1:])
        names = [item["info"] for item in group]
        if confident:
            classes, confidence = predict_confident_labels(network, images, size, settings, names)
        else:
            classes, confidence = predict_labels(network, images, size, settings, names), None
        for k, position in enumerate(positions):
            probabilities = None if confidence is None else confidence[k].numpy()
            found[position] = _Predicted(items[position], classes[k].numpy(), probabilities)
    return [found[position] for position in range(len(items))]


def _shapes(item: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(part.shape) for part in (item["seg_label"], *item["img_data"]))


def group_equal(values: Sequence[object]) -> list[list[int]]:
    """The positions of equal values, in a list for each value, ordered by first occurrence.

    >>> group_equal(["a", "b", "a"])
    [[0, 2], [1]]
    """
    groups: dict[object, list[int]] = {}
    for position, value in enumerate(values):
        groups.setdefault(value, []).append(position)
    return list(groups.values())
