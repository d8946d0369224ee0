"""Training: a loop over a deterministic sequence of sub-batches, one process a device."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from ..checkpoint import epoch_path
from ..dataset import TrainDataset
from ..distributed import Place, run, sum_over_processes
from ..log import setup_logger
from ..optim import build_optimizer, set_poly_lr
from .history import History
from .loading import load, raise_errors, to_device
from .progress import Progress
from .setup import build_module, check_batch, check_model, check_writable, class_table, freeze_batch_norm
from .state import resume_state, resume_weights, save_epoch


def train(cfg: CfgNode, devices: Sequence[torch.device]) -> None:
    """Train the model of ``cfg`` on ``devices``, writing a checkpoint into ``cfg.DIR`` after every epoch.

    Raises:
        UserError: for a config, a list or a file that can't be used.
        FloatingPointError: when the loss is not finite; the weights have not been touched by it.
    """
    check_model(cfg)
    check_batch(cfg, len(devices))
    # Files that only the processes, or the evaluation, will need: a bad one is refused before a start.
    class_table(cfg)
    TrainDataset(cfg.DATASET.root_dataset, cfg.DATASET.list_train, cfg.DATASET)
    weights = resume_weights(cfg)
    check_writable(cfg.DIR, "DIR")
    run(_train, devices, cfg, weights)


def _train(place: Place, cfg: CfgNode, weights: tuple[str, str]) -> None:
    """One process's share of the training."""
    settings = cfg.TRAIN
    log = setup_logger(place.rank)
    torch.manual_seed(settings.seed)
    module = build_module(cfg, weights, training=True).to(place.device)
    module.train()
    if settings.fix_bn:
        freeze_batch_norm(module)
    optimizer = build_optimizer(
        settings.optim,
        module.encoder,
        module.decoder,
        lr=(settings.lr_encoder, settings.lr_decoder),
        beta1=settings.beta1,
        weight_decay=settings.weight_decay,
    )
    history = resume_state(cfg, optimizer)
    net: nn.Module = module
    if place.size > 1:
        ids = [place.device.index] if place.device.type == "cuda" else None
        net = DistributedDataParallel(module, device_ids=ids)
    log.info(
        "Training %s + %s on %s: %d epochs of %d iterations, %d images each",
        cfg.MODEL.arch_encoder,
        cfg.MODEL.arch_decoder,
        f"{place.size} x {place.device.type}" if place.size > 1 else place.device,
        settings.num_epoch - settings.start_epoch,
        settings.epoch_iters,
        settings.batch_size_per_gpu * place.size,
    )
    batches = _batches(cfg, place)
    for epoch in range(settings.start_epoch + 1, settings.num_epoch + 1):
        # Dropout draws from here, so that a resumed run draws what the uninterrupted one did.
        torch.manual_seed(
            int(np.random.SeedSequence([settings.seed, epoch, place.rank]).generate_state(1)[0])
        )
        _train_epoch(epoch, net, optimizer, batches, cfg, place, history)
        if place.is_first:
            save_epoch(cfg, epoch, module, optimizer, history)
            log.info("Saved %s", epoch_path(cfg.DIR, "encoder", epoch))


def _batches(cfg: CfgNode, place: Place) -> Iterator[dict[str, Any]]:
    """This process's sub-batches of all epochs: number r, r + n, r + 2n, ... for rank r of n."""
    settings = cfg.TRAIN
    dataset = TrainDataset(
        cfg.DATASET.root_dataset,
        cfg.DATASET.list_train,
        cfg.DATASET,
        batch_per_gpu=settings.batch_size_per_gpu,
        seed=settings.seed,
    )
    first, last = (
        epoch * settings.epoch_iters * place.size for epoch in (settings.start_epoch, settings.num_epoch)
    )
    indices = range(first + place.rank, last, place.size)
    return raise_errors(load(dataset, indices, workers=settings.workers, device=place.device))


def _train_epoch(
    epoch: int,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[dict[str, Any]],
    cfg: CfgNode,
    place: Place,
    history: History,
) -> None:
    settings = cfg.TRAIN
    progress = Progress(epoch, settings.num_epoch, settings.epoch_iters, enabled=place.is_first)
    with progress:
        for i in range(settings.epoch_iters):
            batch = to_device(next(batches), place.device)
            progress.loaded()
            iteration = (epoch - 1) * settings.epoch_iters + i
            set_poly_lr(optimizer, iteration, settings.num_epoch * settings.epoch_iters, settings.lr_pow)
            loss, shown = _forward(net, batch, place)
            if not math.isfinite(shown.loss):
                raise FloatingPointError(
                    f"The loss is {shown.loss} at epoch {epoch}, iteration {i + 1}, learning rate "
                    f"{optimizer.param_groups[0]['lr']:.3g}; the weights were not updated. "
                    f"Images: {', '.join(batch['info'])}"
                )
            optimizer.zero_grad(set_to_none=True)
            (
                loss * place.size
            ).backward()  # DistributedDataParallel divides the summed gradients by the processes
            optimizer.step()
            progress.step(shown.loss, shown.accuracy, images=len(batch["img_data"]) * place.size)
            if (i + 1) % settings.disp_iter == 0 or i + 1 == settings.epoch_iters:
                loss_shown, accuracy_shown = progress.show(group["lr"] for group in optimizer.param_groups)
                history.add(epoch - 1 + (i + 1) / settings.epoch_iters, loss_shown, accuracy_shown)


class _Shown(NamedTuple):
    """Means over the pixels that have a label, of all processes; accuracy as a share."""

    loss: float
    accuracy: float


def _forward(net: nn.Module, batch: dict[str, Any], place: Place) -> tuple[Tensor, _Shown]:
    """What this process backpropagates, and what is shown of the iteration.

    The loss of an iteration is the sum over the pixels that have a label, of all processes, divided by their
    number; 0 where there are none. DistributedDataParallel averages gradients, so that each process
    multiplies its share by the number of processes.
    """
    loss_sum, accuracy = net(batch)
    valid = (batch["seg_label"] >= 0).sum()
    sums = sum_over_processes(torch.stack([loss_sum.detach(), accuracy * valid, valid.float()]).double())
    total = sums[2].clamp(min=1)
    mean_loss, mean_accuracy = (sums[:2] / total).tolist()
    return loss_sum * (place.size / total).to(loss_sum.dtype), _Shown(mean_loss, mean_accuracy)
