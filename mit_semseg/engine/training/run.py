"""What one process trains with: model, optimizer and data, built and brought to where the training starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from ...dataset import TrainDataset
from ...distributed import Place
from ...ema import WeightAverage
from ...lib.nn import UserScatteredDataParallel
from ...models import SegmentationModule
from ..loading import Skipped, load, raise_errors
from ..recipe import class_weights, criterion, label_rate, optimizer_for
from ..setup import build_module
from .course import Course
from .precision import Precision
from .process_parallel import ProcessParallel
from .resume import Start, starting_course
from .speed import choose_precision, freeze_parts, set_up_speed
from .state import Stateful, load_state, save_state
from .validation import Validation


@dataclass
class Run:
    """
    Attributes:
        devices: of this process.
        module: the bare module, whose weights are saved.
        net: the module as it is trained, see `parallel`.
        average: of the weights; None without ``TRAIN.ema_decay``.
        extras: what has a state besides module and optimizer, by name; it is saved and taken up with them.
        validation: None without ``VAL.every``.
        digest: of the training list.
        notes: what the user should know about the start.
    """

    cfg: CfgNode
    place: Place
    devices: Sequence[torch.device]
    dataset: TrainDataset
    module: SegmentationModule
    net: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision
    average: WeightAverage | None
    extras: dict[str, Stateful]
    course: Course
    validation: Validation | None
    digest: str
    notes: list[str]

    @property
    def sub_batches(self) -> int:
        """Of all devices, in an iteration."""
        return self.cfg.TRAIN.accumulate * self.place.size * len(self.devices)

    def save(self) -> None:
        """Write the state, on rank 0."""
        if self.place.is_first:
            save_state(self.cfg, self.digest, self.course, self.module, self.optimizer, self.extras)

    def rates(self) -> tuple[float, float]:
        """The learning rates of encoder and decoder; 0 for one that is frozen."""
        encoder, decoder = (
            next((group["lr"] for group in self.optimizer.param_groups if _shares(group, part)), 0.0)
            for part in (self.module.encoder, self.module.decoder)
        )
        return encoder, decoder

    def describe(self) -> str:
        cfg, course, devices = self.cfg, self.course, self.place.size * len(self.devices)
        where = self.place.device if devices == 1 else f"{devices} x {self.place.device.type}"
        left = cfg.TRAIN.num_epoch - course.epochs
        epochs = f"{left} epoch{'' if left == 1 else 's'} of {cfg.TRAIN.epoch_iters} iterations"
        whence = f", going on behind iteration {course.iteration}" if course.iteration else ""
        return (
            f"Training {cfg.MODEL.arch_encoder} + {cfg.MODEL.arch_decoder} on {where}: {epochs}, "
            f"{cfg.TRAIN.batch_size_per_gpu * self.sub_batches} images each{whence}"
        )


def prepare(place: Place, cfg: CfgNode, start: Start, devices: Sequence[torch.device]) -> Run:
    """Raises: UserError for weights or a state that do not fit."""
    settings = cfg.TRAIN
    torch.manual_seed(settings.seed)
    dataset = train_dataset(cfg)
    module = build_module(cfg, start.weights, training=True, pretrained=start.state is None)
    # Behind the weights, of which a bad file is told at once, while labels can take minutes to count.
    module.crit = criterion(settings, class_weights(cfg, dataset, place))
    module = module.to(place.device).train()
    freeze_parts(module, settings)
    optimizer = optimizer_for(module, settings)
    precision = choose_precision(settings, module, place.device)
    average = WeightAverage(module, settings.ema_decay) if settings.ema_decay else None
    extras: dict[str, Stateful] = {"number format": precision}
    if average is not None:
        extras["average of the weights"] = average
    notes = list(start.notes)
    if start.state is None:
        course = starting_course(start, cfg, settings.accumulate * place.size * len(devices))
    else:
        course, more = load_state(start.state, module, optimizer, extras)
        notes += more
        if average is not None and not average.updates:
            average.begin_as(module)  # it was made of weights that are no more
    set_up_speed(cfg, module, precision, dataset, place, devices)
    return Run(
        cfg=cfg,
        place=place,
        devices=devices,
        dataset=dataset,
        module=module,
        net=parallel(module, place, devices),
        optimizer=optimizer,
        precision=precision,
        average=average,
        extras=extras,
        course=course,
        validation=Validation(cfg) if cfg.VAL.every else None,
        digest=start.digest,
        notes=notes,
    )


def parallel(module: nn.Module, place: Place, devices: Sequence[torch.device]) -> nn.Module:
    """``module`` as it is trained: over processes, over replicas in this process, or alone."""
    if len(devices) > 1:
        return UserScatteredDataParallel(module, devices)
    return module if place.size == 1 else ProcessParallel(module, place.device)


def train_dataset(cfg: CfgNode) -> TrainDataset:
    """Raises: UserError for a list that can't be used."""
    options = cfg.DATASET.clone()
    options.defrost()
    options.segm_downsampling_rate = label_rate(cfg)
    return TrainDataset(
        cfg.DATASET.root_dataset,
        cfg.DATASET.list_train,
        options,
        batch_per_gpu=cfg.TRAIN.batch_size_per_gpu,
        seed=cfg.TRAIN.seed,
    )


def batches(
    cfg: CfgNode, dataset: TrainDataset, place: Place, devices: int, course: Course
) -> Iterator[list[list[dict[str, Any]]]]:
    """What this process trains on, iteration by iteration: ``accumulate`` times a sub-batch for each device.

    Args:
        devices: of this process. Of n in all, device r takes sub-batches f + r, f + r + n, f + r + 2n, ... of
            the schedule, where f have been used up.
    """
    settings, count = cfg.TRAIN, devices * cfg.TRAIN.accumulate
    first = course.sub_batches
    iterations = settings.num_epoch * settings.epoch_iters - course.iteration
    indices = range(first + place.rank, first + iterations * place.size * count, place.size)
    items = raise_errors(load(dataset.sub_batch, indices, workers=settings.workers, device=place.device))
    skipped = Skipped(dataset.num_sample)
    while shards := list(islice(items, count)):
        for shard in shards:
            skipped.add(shard.pop("skipped"))
        yield [shards[k : k + devices] for k in range(0, count, devices)]


def _shares(group: dict[str, Any], part: nn.Module) -> bool:
    own = {id(parameter) for parameter in part.parameters()}
    return any(id(parameter) in own for parameter in group["params"])
