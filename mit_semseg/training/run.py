"""A run in one process: all that it trains with, its saves, and what its log says about it."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.datasets import TrainDataset
from ..models import SegmentationModule
from ..optim.ema import WeightAverage
from ..optim.lr_schedule import LRSchedule
from ..runtime.distributed import ProcessInfo
from .checkpoints import save_best, save_epoch
from .counters import TrainState
from .history import History
from .options import RunOptions
from .precision import Precision
from .saving import Saver
from .shard_files import write_sharded_state
from .sharding import gathered, is_sharded
from .state import Stateful, state_content, write_state
from .validation import Validation


@dataclass
class Run:
    """Everything that one process needs to train.

    Attributes:
        devices: the devices of this process.
        module: the bare module, whose weights are saved; with ``TRAIN.parallel fsdp``, see `sharding.shard`.
        net: ``module`` in its parallel wrapper, see `parallel`.
        average: the average of the weights; None without ``TRAIN.ema_decay``.
        extras: further objects with a state, by name. They are saved and resumed.
        validation: None without ``VAL.every``.
        digest: SHA-256 of the training list.
        notes: messages for the user about the start.
        saved: the iteration of the state in ``DIR``; None without one.
        keeps: whether this process writes weights and state: on rank 0, and on the first process of each
            machine whose ``DIR`` is on a disk of its own.
    """

    options: RunOptions
    process: ProcessInfo
    devices: Sequence[torch.device]
    dataset: TrainDataset
    module: SegmentationModule
    net: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRSchedule
    precision: Precision
    average: WeightAverage | None
    extras: dict[str, Stateful]
    state: TrainState
    validation: Validation | None
    digest: str
    notes: list[str]
    saved: int | None
    keeps: bool
    saver: Saver

    @property
    def sub_batches(self) -> int:
        """The number of sub-batches that an iteration uses on all devices."""
        return self.options.accumulate * self.process.size * len(self.devices)

    def save(self, *, epoch: "EpochFiles | None" = None, then: Callable[[], None] = lambda: None) -> None:
        """Copy the state, and write it in a thread where the run keeps it.

        If the module is sharded, all processes write their shares, and it is on the disk afterwards.

        Args:
            epoch: the files to write before the state.
            then: is called after all files are on the disk, see `Saver`.
        """
        iteration = self.state.iteration

        def saved() -> None:
            self.saved = iteration
            then()

        def write_epoch() -> None:
            if epoch is not None:
                epoch.write(self.options.folder)

        parts = (self.options, self.digest, self.state, self.module, self.optimizer, self.extras)
        if is_sharded(self.module):
            content = state_content(*parts)
            write_sharded_state(self.options, content, first=self.process.is_first, before=write_epoch)
            saved()
            return
        if not self.keeps:
            saved()
            return
        self.saver.wait()
        content = self.saver.snapshot.of(state_content(*parts), "state")

        def write() -> None:
            write_epoch()
            write_state(self.options, content)

        self.saver.start(write, saved)

    def epoch_files(self, epoch: int, *, best: bool) -> "EpochFiles | None":
        """The files of an epoch with a copy of the present weights; None where the run keeps none.

        If the module is sharded, all processes must call this together.
        """
        weights = {part: self.module.get_submodule(part).state_dict() for part in ("encoder", "decoder")}
        if is_sharded(self.module):
            weights = gathered(weights, keep=self.keeps)
        if not self.keeps:
            return None
        if not is_sharded(self.module):
            self.saver.wait()
            weights = self.saver.snapshot.of(weights, "epoch")
        return EpochFiles(epoch, weights, copy.deepcopy(self.state.history), best)

    @property
    def rate_scale(self) -> float:
        """The factor on all learning rates, see ``TRAIN.scale_rate``."""
        if self.options.scale_rate == "none":
            return 1.0
        return self.sub_batches / self.state.first_sub_batches

    def rates(self) -> tuple[float, float]:
        """The learning rates of encoder and decoder; 0 for a frozen one."""
        encoder, decoder = (
            next((group["lr"] for group in self.optimizer.param_groups if _shares(group, part)), 0.0)
            for part in (self.module.encoder, self.module.decoder)
        )
        return encoder, decoder

    def describe(self) -> str:
        """A log line: model, devices, remaining epochs, and images per iteration."""
        options, devices = self.options, self.process.size * len(self.devices)
        where = self.process.device if devices == 1 else f"{devices} x {self.process.device.type}"
        where = f"{where}, sharded" if is_sharded(self.module) else where
        left = options.num_epoch - self.state.epochs
        epochs = f"{left} epoch{'' if left == 1 else 's'} of {options.epoch_iters} iterations"
        resumed = f", resumed after iteration {self.state.iteration}" if self.state.iteration else ""
        return (
            f"Training {options.title} on {where}: {epochs}, "
            f"{options.batch_size_per_gpu * self.sub_batches} images each{resumed}"
        )

    def describe_rates(self) -> list[str]:
        """A log line on the learning rates, if an iteration has another number of images than the first."""
        now, first = (
            self.options.batch_size_per_gpu * count
            for count in (self.sub_batches, self.state.first_sub_batches)
        )
        if now == first:
            return []
        scale = self.rate_scale
        rates = "are not changed" if scale == 1 else f"are multiplied by {scale:.4g}"
        return [
            f"An iteration has {now} images now and had {first} at the start of the run. The learning rates "
            f"{rates} (TRAIN.scale_rate {self.options.scale_rate})"
        ]


@dataclass(frozen=True)
class EpochFiles:
    """What `save_epoch` writes after an epoch, and `save_best` if it is the best."""

    epoch: int
    weights: dict[str, dict[str, Any]]
    history: History
    best: bool

    def write(self, folder: Path) -> None:
        """Raises: UserError if the disk refuses, DivergenceError for weights that are not finite."""
        save_epoch(folder, self.epoch, self.weights, self.history)
        if self.best:
            save_best(folder, self.weights)


def _shares(group: dict[str, Any], part: nn.Module) -> bool:
    own = {id(parameter) for parameter in part.parameters()}
    return any(id(parameter) in own for parameter in group["params"])
