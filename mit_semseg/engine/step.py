"""One iteration of the training: from a batch to updated weights."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.images import normalize
from ..distributed import Place, sum_over_processes
from ..lib.nn import async_copy_to


class Shown(NamedTuple):
    """Means over the pixels that have a label, on all devices; accuracy as a share."""

    loss: float
    accuracy: float


def on_device(shard: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A sub-batch as the module takes it: a byte a value crosses to the device, and is normalized there."""
    shard = async_copy_to({**shard, "seg_label": torch.from_numpy(shard["seg_label"])}, device)
    return {**shard, "img_data": normalize(shard["img_data"], shard["sizes"])}


def step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: list[dict[str, Any]],
    place: Place,
    *,
    where: str,
) -> Shown:
    """Forward, backward, update.

    Args:
        net: the module as it is trained, see train.py.
        batch: a sub-batch for each device of this process, there.
        where: epoch and iteration, for the message.

    Raises: FloatingPointError if the loss is not finite; the weights have not been touched by it.
    """
    loss, shown = forward(net, batch, place)
    if not math.isfinite(shown.loss):
        raise FloatingPointError(
            f"The loss is {shown.loss} at {where}, learning rate "
            f"{optimizer.param_groups[0]['lr']:.3g}; the weights were not updated. "
            f"Images: {', '.join(file for shard in batch for file in shard['info'])}"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return shown


def forward(net: nn.Module, batch: list[dict[str, Any]], place: Place) -> tuple[Tensor, Shown]:
    """What this process backpropagates, and what is shown of the iteration.

    The loss of an iteration is the sum over the pixels that have a label, on all devices, divided by their
    number; 0 where there are none. DistributedDataParallel averages gradients, so that each process
    multiplies its share by the number of processes.
    """
    loss, accuracy = net(batch)  # 0-dim, or one value a replica
    valid = torch.stack([(shard["seg_label"] >= 0).sum().to(place.device) for shard in batch])
    sums = torch.stack([loss.detach().sum(), (accuracy * valid).sum(), valid.sum()]).double()
    loss_sum, correct, total = sum_over_processes(sums).tolist()
    total = max(total, 1)
    return loss.sum() * (place.size / total), Shown(loss_sum / total, correct / total)
