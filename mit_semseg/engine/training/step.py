"""One iteration of the training: from a batch to updated weights."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ...data.images import normalize
from ...distributed import Place, sum_over_processes
from ...lib.nn.scatter import copy_ahead
from .normalize import Normalizer, Shown, criterion_of
from .precision import Precision
from .process_parallel import ProcessParallel
from .reading import Reading


def on_device(shard: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A sub-batch as the module takes it: a byte a value crosses to the device, and is normalized there.

    To a GPU it crosses while that is still busy with the iteration before.
    """
    label = torch.from_numpy(shard["seg_label"])
    shard = copy_ahead({**shard, "seg_label": label.pin_memory() if device.type == "cuda" else label}, device)
    return {**shard, "img_data": normalize(shard["img_data"], shard["sizes"])}


def step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[list[dict[str, Any]]],
    place: Place,
    *,
    where: str,
    clip_grad_norm: float = 0.0,
    precision: Precision | None = None,
) -> Shown:
    """Forward and backward for each of ``batches``, then one update.

    On a GPU, the loss is waited for while the last backward pass runs, so that the GPU never waits.

    Args:
        net: the module as it is trained, see train.py.
        batches: each with a sub-batch for each device of this process, there.
        where: epoch and iteration, for the message.
        clip_grad_norm: the gradient is scaled down to this norm, over all weights together; 0: never.
        precision: None is float32.

    Raises: FloatingPointError if the loss is not finite; the weights have not been touched by it.
    """
    precision = precision or Precision(place.device)
    labels = [shard["seg_label"] for batch in batches for shard in batch]
    normalizer = Normalizer(criterion_of(net), labels, place)
    optimizer.zero_grad(set_to_none=True)
    parts = []
    for number, batch in enumerate(batches, 1):
        last = number == len(batches)
        with net.exchanging(now=last) if isinstance(net, ProcessParallel) else nullcontext():
            loss, part = forward(net, batch, normalizer, precision)
            parts.append(part)
            if last:
                reading = Reading(normalizer.means(sum_over_processes(torch.stack(parts).sum(0))))
            precision.backward(loss)
    shown = Shown(*reading.values())
    if not math.isfinite(shown.loss):
        files = (file for batch in batches for shard in batch for file in shard["info"])
        raise FloatingPointError(
            f"The loss is {shown.loss} at {where}, learning rate "
            f"{optimizer.param_groups[0]['lr']:.3g}; the weights were not updated. "
            f"Images: {', '.join(files)}"
        )
    precision.update(optimizer, clip_grad_norm)
    return shown


def forward(
    net: nn.Module, batch: list[dict[str, Any]], normalizer: Normalizer, precision: Precision | None = None
) -> tuple[Tensor, Tensor]:
    """What this process backpropagates for a batch, 0-dim, and what `Normalizer.shown` takes of it."""
    if precision is not None:
        batch = [precision.laid_out(shard) for shard in batch]
    with nullcontext() if precision is None else precision.autocast():
        sums, accuracy = net(batch)  # of one device, or of the replicas one behind the other
    correct = accuracy * torch.stack([(shard["seg_label"] >= 0).sum().to(accuracy) for shard in batch])
    return normalizer.to_minimize(sums), normalizer.part(sums.detach(), correct.sum())
