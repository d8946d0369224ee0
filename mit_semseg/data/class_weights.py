"""Weights of the classes in the loss, computed from a list's labels, to learn rare classes better."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import UserError
from ..runtime.distributed import ProcessInfo, failing_together, local_world_size, sum_over_processes
from ..runtime.log import get_logger
from ..runtime.machine import cpu_count
from .datasets import TrainDataset
from .loader import AUTO, loading, raise_errors


class ClassCounts:
    """Counts of the labelled pixels of each class in a list, summed over its labels.

    Attributes:
        pixels: labelled pixels of each class; (C,) int64.
        around: labelled pixels of any class, in the labels that contain the class; (C,) int64.
    """

    def __init__(self, num_class: int) -> None:
        self.pixels = np.zeros(num_class, np.int64)
        self.around = np.zeros(num_class, np.int64)

    def add(self, counts: np.ndarray) -> None:
        """Add a label, given its number of pixels of each class, (C,)."""
        self.pixels += counts
        self.around[counts > 0] += counts.sum()


def median_frequency(counts: ClassCounts, constant: float) -> np.ndarray:
    """The median frequency divided by each class's frequency, (C,) float64; 0 for a class that never occurs.

    The frequency of a class is its share of the labelled pixels in the images that contain it.

    Source: Eigen and Fergus 2015, Predicting Depth, Surface Normals and Semantic Labels, section 6.3.2.
    """
    frequency = counts.pixels / np.maximum(counts.around, 1)
    occurs = counts.pixels > 0
    weights = np.zeros(len(frequency))
    weights[occurs] = np.median(frequency[occurs]) / frequency[occurs]
    return weights


def enet(counts: ClassCounts, constant: float) -> np.ndarray:
    """``1 / ln(constant + share)`` of each class, (C,) float64; 0 for a class that never occurs.

    ``share`` is the class's share of all labelled pixels.

    Source: Paszke et al. 2016, ENet, section 5.2, where the constant is 1.02.
    """
    share = counts.pixels / max(counts.pixels.sum(), 1)
    return np.where(counts.pixels > 0, 1 / np.log(constant + share), 0.0)


CLASS_WEIGHTS: dict[str, Callable[[ClassCounts, float], np.ndarray]] = {
    "median_frequency": median_frequency,
    "enet": enet,
}


def compute_class_weights(
    name: str, dataset: TrainDataset, process: ProcessInfo, constant: float, *, workers: int = AUTO
) -> Tensor:
    """The class weights of a dataset, from its labels at full resolution; (num_class,) float32 on the CPU.

    Each process counts its share of the labels, and all processes return the same weights.

    Args:
        name: a key of ``CLASS_WEIGHTS``.
        constant: see `enet`; other kinds ignore it.
        workers: loader processes; `AUTO` takes this process's share of the cores.

    Raises: UserError if a label cannot be used or no pixel has a class; ProcessError if a loader process
        dies.
    """
    num_class = dataset.coding.num_class
    assert num_class is not None
    indices = range(process.rank, dataset.num_sample, process.size)
    if workers == AUTO:
        workers = cpu_count() // local_world_size()
    counts = ClassCounts(num_class)
    cpu = torch.device("cpu")
    with failing_together(), loading(dataset.label_counts, indices, workers=workers, device=cpu) as items:
        bar = tqdm(
            raise_errors(items),
            total=len(indices),
            desc="Counting labels",
            unit="label",
            disable=None if process.is_first else True,
        )
        for item in bar:
            counts.add(item["counts"])
    both = torch.from_numpy(np.stack([counts.pixels, counts.around])).to(process.device)
    counts.pixels, counts.around = sum_over_processes(both).cpu().numpy()
    if not counts.pixels.any():
        raise UserError(
            f"{dataset.records.name} has no labelled pixel, so class weights cannot be computed. "
            "To see its labels' values: mit-semseg data check."
        )
    weights = CLASS_WEIGHTS[name](counts, constant)
    occur = weights[counts.pixels > 0]
    get_logger().info(
        "Class weights %s from %.3g to %.3g; %d of %d classes occur",
        *(name, occur.min(), occur.max(), len(occur), len(weights)),
    )
    return torch.from_numpy(weights).float()
