"""The speed of a training: number format, memory layout, compilation, and recomputed activations.

Format and layout come from the config, from rules (``auto``), or from timings (``TRAIN.autotune``).
"""

import copy
import os
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..data.datasets import TrainDataset
from ..errors import UserError
from ..lib.nn import UserScatteredDataParallel
from ..models import SegmentationModule
from ..models.activation_checkpointing import checkpoint_activations
from ..runtime.distributed import ProcessInfo, sum_over_processes
from ..runtime.log import get_logger
from ..runtime.machine import synchronize
from .options import SpeedOptions
from .precision import AMP, Precision, faster_layout, fastest_amp, trains_wrongly
from .step import Normalizer, criterion_of, forward, on_device

_SUB_BATCHES = 2  # timed on each device, since the sizes of sub-batches vary
_ROUNDS = 3  # timed on each sub-batch, after one round of warm-up


def choose_precision(options: SpeedOptions, module: SegmentationModule, device: torch.device) -> Precision:
    """The number format and the layout of a run; a rule decides ``auto``.

    Where the config leaves the choice open, a state that is loaded later decides, so that a run resumes as it
    began. Without a state, `set_up_speed` chooses by timings if ``TRAIN.autotune`` is set.
    """
    amp = fastest_amp(device) if options.amp == "auto" else options.amp
    open_layout = options.channels_last == "auto"
    channels_last = faster_layout(module, device, amp) if open_layout else options.channels_last == "True"
    return Precision(
        device,
        amp,
        channels_last,
        adopts_amp=options.autotune or options.amp == "auto",
        adopts_layout=open_layout,
    )


def set_up_speed(
    options: SpeedOptions,
    arch_encoder: str,
    module: SegmentationModule,
    precision: Precision,
    dataset: TrainDataset,
    process: ProcessInfo,
    devices: Sequence[torch.device],
) -> None:
    """Complete ``precision``, and set up activation checkpointing and compilation for ``module``.

    Args:
        module: on its device, in training mode, not yet in a parallel wrapper.
        precision: the result of `choose_precision`, with the state of a resumed run already loaded.
        dataset: the training data; timings use its first sub-batches.

    Raises: UserError for an encoder, or a machine, that can't do what the config asks for.
    """
    log, device = get_logger(), process.device
    if options.checkpoint_activations:
        try:
            checkpoint_activations(module.encoder)
        except ValueError:
            raise UserError(
                f"TRAIN.checkpoint_activations is True, but {arch_encoder} has no stages that can be "
                "recomputed. Set it to False."
            ) from None
    if options.autotune and not precision.restored:
        best = fastest(module, dataset, process, devices)
        precision.choose(best.amp, best.channels_last)
    if trains_wrongly(module, device, precision.amp):
        _avoid_channels_last(options, precision)
    hint, auto = "", fastest_amp(device)
    if options.amp == "none" != auto and not options.autotune:
        hint = f" (TRAIN.amp auto: {auto}, usually faster, but less exact)"
    log.info("Computing in %s%s%s", precision, ", compiled" if options.compile else "", hint)
    if precision.amp == "fp16" and device.type == "cpu":
        log.warning("TRAIN.amp is fp16, which is slow on CPUs. Set it to auto or bf16.")
    if options.compile:
        _check_compiler()
        module.encoder.compile()
        module.decoder.compile()


def fastest(
    module: SegmentationModule, dataset: TrainDataset, process: ProcessInfo, devices: Sequence[torch.device]
) -> Precision:
    """The fastest combination for forward and backward passes on the first sub-batches of ``dataset``.

    The candidates take turns, so that other load on the machine affects all alike, and the median of the
    rounds counts. Processes add up their times, so all choose the same. The module, BatchNorm's statistics,
    the random numbers and the order of the data do not change.
    """
    log = get_logger()
    log.info("TRAIN.autotune: timing number formats and memory layouts")
    candidates = [Precision(process.device, *choice) for choice in choices(module, process.device)]
    with _nothing_drawn(devices):
        trial: nn.Module = copy.deepcopy(module)
        if len(devices) > 1:
            trial = UserScatteredDataParallel(trial, devices)
        seconds = torch.tensor(
            [
                _seconds(trial, dataset, number, candidates, process, devices)
                for number in range(_SUB_BATCHES)
            ],
            dtype=torch.float64,
            device=process.device,
        )
    means = (sum_over_processes(seconds.sum(0)) / (_SUB_BATCHES * process.size)).tolist()
    best = min(range(len(candidates)), key=means.__getitem__)
    for number, (candidate, mean) in enumerate(zip(candidates, means, strict=True)):
        mark = "  <- chosen" if number == best else ""
        log.info("  %-24s%8.1f ms  %5.2f x%s", candidate, 1000 * mean, means[0] / mean, mark)
    return candidates[best]


def choices(module: nn.Module, device: torch.device) -> Iterator[tuple[str, bool]]:
    """The combinations to time, float32 in NCHW first. fp16 on CPUs is slow and not worth the time."""
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
    process: ProcessInfo,
    devices: Sequence[torch.device],
) -> list[float]:
    """The median time of each candidate on one sub-batch for each device, in seconds.

    Args:
        number: which sub-batches of the schedule to use, from 0.
    """
    first = (number * process.size + process.rank) * len(devices)
    batch = [on_device(dataset.sub_batch(first + k), device) for k, device in enumerate(devices)]
    taken: list[list[float]] = [[] for _ in candidates]
    for turn in range(_ROUNDS + 1):
        for candidate, times in zip(candidates, taken, strict=True):
            for device in devices:
                synchronize(device)
            start = time.perf_counter()
            trial.zero_grad(set_to_none=True)
            normalizer = Normalizer(criterion_of(trial), [shard["seg_label"] for shard in batch], process)
            loss, _ = forward(trial, batch, normalizer, candidate)
            candidate.backward(loss)
            for device in devices:
                synchronize(device)
            if turn:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


@contextmanager
def _nothing_drawn(devices: Sequence[torch.device]) -> Iterator[None]:
    """After the block, the random numbers continue as before it, and its GPU memory is free again."""
    gpus = [device for device in devices if device.type == "cuda"]
    with torch.random.fork_rng(gpus):
        yield
    if gpus:
        torch.cuda.empty_cache()


def _avoid_channels_last(options: SpeedOptions, precision: Precision) -> None:
    """Avoid channels-last even if a state from a GPU has it. Refuse a config that would lead to it.

    torch.compile may choose channels-last by itself.
    """
    why = "bf16 on a CPU computes wrong gradients for dilated grouped convolutions in channels-last"
    if options.channels_last == "True":
        raise UserError(f"TRAIN.channels_last is True, but {why}. Set it to auto, or TRAIN.amp to none.")
    if options.compile:
        raise UserError(
            f"TRAIN.compile is True, but {why}, which torch.compile chooses. Set it to False, or TRAIN.amp "
            "to none."
        )
    precision.channels_last = False


def _check_compiler() -> None:
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    if not any(shutil.which(compiler) for compiler in compilers):
        raise UserError(
            "TRAIN.compile is True, but there is no C++ compiler here (g++ or clang++), which torch.compile "
            "needs. Install one, or set it to False."
        )
