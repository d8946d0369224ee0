"""The fastest number format and memory layout for a network, measured on what it is trained on."""

import copy
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ...dataset import TrainDataset
from ...distributed import Place, sum_over_processes
from ...lib.nn import UserScatteredDataParallel
from ...log import get_logger
from ...models import SegmentationModule
from .normalize import Normalizer, criterion_of
from .precision import AMP, Precision, trains_wrongly
from .step import forward, on_device

_SUB_BATCHES = 2  # for each device, of which the first of a schedule have several sizes
_ROUNDS = 3  # on each of them, after one that warms up


def fastest(
    module: SegmentationModule, dataset: TrainDataset, place: Place, devices: Sequence[torch.device]
) -> Precision:
    """The combination that takes least time for forward and backward on the first sub-batches of ``dataset``.

    All take turns, so that other load on the machine hits them alike, and the median of their rounds counts.
    Processes add up their times, so that all of them choose the same. The module, BatchNorm's statistics, the
    random numbers and the order of the data are as if nothing had happened.
    """
    log = get_logger()
    log.info("TRAIN.autotune: timing number formats and memory layouts")
    candidates = [Precision(place.device, *choice) for choice in choices(module, place.device)]
    with _nothing_drawn(devices):
        trial: nn.Module = copy.deepcopy(module)
        if len(devices) > 1:
            trial = UserScatteredDataParallel(trial, devices)
        seconds = torch.tensor(
            [_seconds(trial, dataset, number, candidates, place, devices) for number in range(_SUB_BATCHES)],
            dtype=torch.float64,
            device=place.device,
        )
    means = (sum_over_processes(seconds.sum(0)) / (_SUB_BATCHES * place.size)).tolist()
    best = min(range(len(candidates)), key=means.__getitem__)
    for number, (candidate, mean) in enumerate(zip(candidates, means, strict=True)):
        mark = "  <- taken" if number == best else ""
        log.info("  %-24s%8.1f ms  %5.2f x%s", candidate, 1000 * mean, means[0] / mean, mark)
    return candidates[best]


def choices(module: nn.Module, device: torch.device) -> Iterator[tuple[str, bool]]:
    """What is timed: float32 in NCHW first. On CPUs fp16 is slow, and not worth the time."""
    for amp in AMP:
        if amp != "fp16" or device.type == "cuda":
            yield amp, False
            if not trains_wrongly(module, device, amp):
                yield amp, True


def _seconds(
    trial: nn.Module,
    dataset: TrainDataset,
    number: int,
    candidates: Sequence[Precision],
    place: Place,
    devices: Sequence[torch.device],
) -> list[float]:
    """The time of each candidate on the ``number``-th sub-batches of the schedule, in seconds."""
    first = (number * place.size + place.rank) * len(devices)
    batch = [on_device(dataset.sub_batch(first + k), device) for k, device in enumerate(devices)]
    taken: list[list[float]] = [[] for _ in candidates]
    for turn in range(_ROUNDS + 1):
        for candidate, times in zip(candidates, taken, strict=True):
            _wait_for(devices)
            start = time.perf_counter()
            trial.zero_grad(set_to_none=True)
            normalizer = Normalizer(criterion_of(trial), [shard["seg_label"] for shard in batch], place)
            loss, _ = forward(trial, batch, normalizer, candidate)
            candidate.backward(loss)
            _wait_for(devices)
            if turn:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def _wait_for(devices: Sequence[torch.device]) -> None:
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)


@contextmanager
def _nothing_drawn(devices: Sequence[torch.device]) -> Iterator[None]:
    """After the block, the random numbers go on as before it, and what it held on GPUs is free again."""
    gpus = [device for device in devices if device.type == "cuda"]
    with torch.random.fork_rng(gpus):
        yield
    if gpus:
        torch.cuda.empty_cache()
