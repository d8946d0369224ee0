"""A trial before the first step, of what would otherwise fail in the middle of the night."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn

from ...data.geometry import fit_size
from ...dataset import TrainDataset
from ...distributed import Place
from .normalize import Normalizer, criterion_of
from .precision import Precision
from .process_parallel import ProcessParallel
from .step import forward, on_device

_LOOKED_AT = 100  # sub-batches, of which the largest is taken


def rehearse(
    net: nn.Module,
    dataset: TrainDataset,
    place: Place,
    devices: Sequence[torch.device],
    precision: Precision,
    first: int,
) -> None:
    """Send a sub-batch forward and backward on each device, without an update.

    It is the largest of the next hundred, since memory runs out at the largest. Weights and buffers, such as
    BatchNorm's statistics, are as before, and gradients are gone.

    Args:
        net: the module as it is trained, see train.py.
        first: where the training will begin in the schedule.
    """
    index = max(range(first, first + _LOOKED_AT), key=lambda i: _pixels(dataset, i))
    shard = dataset.sub_batch(index)
    kept = [(buffer, buffer.clone()) for buffer in net.buffers()]
    shards = [on_device(shard, device) for device in devices]
    normalizer = Normalizer(criterion_of(net), [copy["seg_label"] for copy in shards], place)
    # It makes the graph known to processes, too, so that the first iteration exchanges as all others do.
    with net.exchanging(now=True) if isinstance(net, ProcessParallel) else nullcontext():
        loss, _ = forward(net, shards, normalizer, precision)
        loss.backward()
    net.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, value in kept:
            buffer.copy_(value)


def _pixels(dataset: TrainDataset, index: int) -> int:
    """Of the images of a sub-batch, before they are padded."""
    drawn = dataset.schedule[index]
    records = [dataset.records[row] for row in drawn.records.tolist()]
    sizes = [
        fit_size(record.width, record.height, drawn.short_edge, dataset.imgMaxSize) for record in records
    ]
    return sum(width * height for width, height in sizes)
