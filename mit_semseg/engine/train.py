"""Training: a loop over a deterministic sequence of sub-batches, one process a device."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from ..checkpoint import epoch_path
from ..dataset import TrainDataset
from ..distributed import Place
from ..errors import UserError
from ..launch import count_processes, is_first_process, run, started_by_torchrun
from ..lib.nn import UserScatteredDataParallel
from ..log import setup_logger
from ..lr_schedule import set_rates
from .history import History
from .loading import Skipped, load, raise_errors
from .precision import Precision
from .process_parallel import ProcessParallel
from .progress import Progress
from .recipe import check_recipe, class_weights, label_rate, optimizer_for, schedule
from .setup import build_module, check_batch, check_model, check_writable, class_table
from .speed import choose_precision, freeze_parts, set_up_speed
from .state import resume_state, resume_weights, save_epoch
from .step import on_device, step


def train(cfg: CfgNode, devices: Sequence[torch.device]) -> None:
    """Train the model of ``cfg`` on ``devices``, writing a checkpoint into ``cfg.DIR`` after every epoch.

    Raises:
        UserError: for a config, a list or a file that can't be used.
        ProcessError: when one of several processes fails.
        FloatingPointError: when the loss is not finite; the weights have not been touched by it.
    """
    check_model(cfg)
    check_recipe(cfg)
    check_batch(cfg, count_processes(devices))
    # Files that only the processes, or the evaluation, will need: a bad one is refused before a start.
    class_table(cfg)
    _dataset(cfg)
    weights = resume_weights(cfg)
    if is_first_process():
        check_writable(cfg.DIR, "DIR")
    if cfg.TRAIN.parallel == "ddp":
        run(_train, devices, cfg, weights, timeout_s=cfg.TRAIN.timeout)
    elif started_by_torchrun():
        raise UserError(
            "TRAIN.parallel is dp, which is one process, but torchrun starts many. Set it to ddp."
        )
    else:
        _train(Place(0, 1, devices[0]), cfg, weights, devices)


def _train(
    place: Place, cfg: CfgNode, weights: tuple[str, str], devices: Sequence[torch.device] | None = None
) -> None:
    """One process's share of the training, on several devices if it is given them."""
    devices = devices or [place.device]
    settings = cfg.TRAIN
    log = setup_logger(place.rank)
    torch.manual_seed(settings.seed)
    dataset = _dataset(cfg)
    of_classes = class_weights(cfg, dataset, place)
    module = build_module(cfg, weights, training=True, class_weights=of_classes).to(place.device)
    module.train()
    freeze_parts(module, settings)
    optimizer = optimizer_for(module, settings)
    history = resume_state(cfg, optimizer)
    precision = choose_precision(settings, module, place.device)
    set_up_speed(cfg, module, precision, dataset, place, devices)
    net = _parallel(module, place, devices)
    all_devices = place.size * len(devices)
    log.info(
        "Training %s + %s on %s: %d epochs of %d iterations, %d images each",
        cfg.MODEL.arch_encoder,
        cfg.MODEL.arch_decoder,
        place.device if all_devices == 1 else f"{all_devices} x {place.device.type}",
        settings.num_epoch - settings.start_epoch,
        settings.epoch_iters,
        settings.batch_size_per_gpu * settings.accumulate * all_devices,
    )
    batches = _batches(cfg, dataset, place, len(devices) * settings.accumulate)
    for epoch in range(settings.start_epoch + 1, settings.num_epoch + 1):
        # Dropout draws from here, so that a resumed run draws what the uninterrupted one did.
        torch.manual_seed(
            int(np.random.SeedSequence([settings.seed, epoch, place.rank]).generate_state(1)[0])
        )
        _train_epoch(epoch, net, optimizer, precision, batches, cfg, place, devices, history)
        if place.is_first:
            save_epoch(cfg, epoch, module, optimizer, history)
            log.info("Saved %s", epoch_path(cfg.DIR, "encoder", epoch))


def _parallel(module: nn.Module, place: Place, devices: Sequence[torch.device]) -> nn.Module:
    """``module`` as it is trained: over processes, over replicas in this process, or alone."""
    if len(devices) > 1:
        return UserScatteredDataParallel(module, devices)
    return module if place.size == 1 else ProcessParallel(module, place.device)


def _dataset(cfg: CfgNode) -> TrainDataset:
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


def _batches(
    cfg: CfgNode, dataset: TrainDataset, place: Place, sub_batches: int
) -> Iterator[list[dict[str, Any]]]:
    """What this process trains on, iteration by iteration: so many sub-batches, in the order of use.

    Of n processes, process r takes sub-batches r, r + n, r + 2n, ... of the schedule.
    """
    settings = cfg.TRAIN
    first, last = (
        epoch * settings.epoch_iters * place.size * sub_batches
        for epoch in (settings.start_epoch, settings.num_epoch)
    )
    indices = range(first + place.rank, last, place.size)
    items = raise_errors(load(dataset.sub_batch, indices, workers=settings.workers, device=place.device))
    skipped = Skipped(dataset.num_sample)
    while batch := list(islice(items, sub_batches)):
        for shard in batch:
            skipped.add(shard.pop("skipped"))
        yield batch


def _train_epoch(
    epoch: int,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    batches: Iterator[list[dict[str, Any]]],
    cfg: CfgNode,
    place: Place,
    devices: Sequence[torch.device],
    history: History,
) -> None:
    settings = cfg.TRAIN
    images = settings.batch_size_per_gpu * settings.accumulate * place.size * len(devices)
    rates = schedule(settings)
    progress = Progress(epoch, settings.num_epoch, settings.epoch_iters, enabled=place.is_first)
    with progress:
        for i in range(settings.epoch_iters):
            shards = next(batches)
            rounds = [shards[k : k + len(devices)] for k in range(0, len(shards), len(devices))]
            batch = [
                [on_device(shard, device) for shard, device in zip(shards, devices, strict=True)]
                for shards in rounds
            ]
            progress.loaded()
            iteration = (epoch - 1) * settings.epoch_iters + i
            set_rates(optimizer, rates, iteration)
            shown = step(
                net,
                optimizer,
                batch,
                place,
                where=f"epoch {epoch}, iteration {i + 1}",
                clip_grad_norm=settings.clip_grad_norm,
                precision=precision,
            )
            progress.step(shown.loss, shown.accuracy, images=images)
            if (i + 1) % settings.disp_iter == 0 or i + 1 == settings.epoch_iters:
                loss_shown, accuracy_shown = progress.show(group["lr"] for group in optimizer.param_groups)
                history.add(epoch - 1 + (i + 1) / settings.epoch_iters, loss_shown, accuracy_shown)
