"""A dry run before the first step, so that a lack of memory or labels shows at once and not hours later."""

from collections.abc import Sequence

import torch
from torch import nn

from ..data.datasets import TrainDataset
from ..data.first_labels import check_first_labels
from ..data.resize import fit_size
from ..runtime.distributed import ProcessInfo
from .parallel import exchanging_gradients
from .precision import Precision
from .step import Normalizer, criterion_of, forward, on_device

_SUB_BATCHES = 100  # the dry run uses the largest of these


def dry_run(
    net: nn.Module,
    dataset: TrainDataset,
    process: ProcessInfo,
    devices: Sequence[torch.device],
    precision: Precision,
    first: int,
) -> None:
    """Run a forward and a backward pass of one sub-batch on each device, without an update.

    The sub-batch is the largest of the next hundred, which needs the most memory. Weights and buffers, such
    as BatchNorm's statistics, are the same afterwards, and no gradients remain.

    Args:
        net: the module as it is trained, see `parallel`.
        first: where the training will begin in the schedule.

    Raises: UserError in all processes, if no pixel of the first labels belongs to a class.
    """
    following = range(first, first + _SUB_BATCHES)
    rows = (row for i in following for row in dataset.schedule[i].records.tolist())
    check_first_labels(dataset, rows, process)
    index = max(following, key=lambda i: _pixels(dataset, i))
    shard = dataset.sub_batch(index)
    kept = [(buffer, buffer.clone()) for buffer in net.buffers()]
    shards = [on_device(shard, device) for device in devices]
    normalizer = Normalizer(criterion_of(net), [copy["seg_label"] for copy in shards], process)
    # The first exchange also records the graph, so that the first iteration exchanges like all others.
    with exchanging_gradients(net, now=True):
        loss, _ = forward(net, shards, normalizer, precision)
        loss.backward()
    net.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, value in kept:
            buffer.copy_(value)


def _pixels(dataset: TrainDataset, index: int) -> int:
    """The number of pixels in the images of a sub-batch, before padding."""
    drawn = dataset.schedule[index]
    records = [dataset.records[row] for row in drawn.records.tolist()]
    sizes = [
        fit_size(record.width, record.height, drawn.short_edge, dataset.imgMaxSize) for record in records
    ]
    return sum(width * height for width, height in sizes)
