"""One iteration of the training, from a batch to updated weights.

`step` runs forward and backward passes and the update. `Normalizer` divides the loss by the labelled pixels
of all devices and processes.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.images import normalize
from ..errors import DivergenceError
from ..lib.nn.scatter import copy_ahead
from ..losses import Criterion
from ..runtime.distributed import ProcessInfo, gather_from_processes, sum_over_processes
from .parallel import exchanging_gradients
from .precision import Precision


class StepResult(NamedTuple):
    """Means over the labelled pixels of an update on all devices, and the number of these pixels.

    Accuracy is a share. Without a labelled pixel, loss and accuracy are 0.
    """

    loss: float
    accuracy: float
    pixels: int


def step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[list[dict[str, Any]]],
    process: ProcessInfo,
    *,
    where: str,
    clip_grad_norm: float = 0.0,
    precision: Precision | None = None,
) -> StepResult:
    """Run a forward and a backward pass for each of ``batches``, then one update.

    The step waits for a GPU once, after the last backward pass: loss and gradient norm are read together.

    Args:
        net: the module in its parallel wrapper, see `parallel`.
        batches: lists of one sub-batch for each device of this process, on that device.
        where: epoch and iteration, for the error message.
        clip_grad_norm: upper limit for the norm over all weights. A larger gradient is scaled down to it.
            0 is no limit.
        precision: None is float32.

    Raises: DivergenceError if the loss or the gradient is not finite. The weights are not updated then.
        With fp16, an update with such a gradient is skipped without an error.
    """
    precision = precision or Precision(process.device)
    labels = [shard["seg_label"] for batch in batches for shard in batch]
    normalizer = Normalizer(criterion_of(net), labels, process)
    optimizer.zero_grad(set_to_none=True)
    parts = []
    for number, batch in enumerate(batches, 1):
        with exchanging_gradients(net, now=number == len(batches)):
            loss, part = forward(net, batch, normalizer, precision)
            precision.backward(loss)
            parts.append(part)
    means = normalizer.means(sum_over_processes(torch.stack(parts).sum(0)))
    norm = precision.gradient_norm(optimizer)
    mean_loss, accuracy, pixels, norm_read = AsyncRead(torch.cat([means, norm.to(means).view(1)])).values()
    result = StepResult(mean_loss, accuracy, int(pixels))
    if not math.isfinite(result.loss):
        raise _diverged(f"The loss is {result.loss}", where, optimizer, batches, parts)
    if math.isfinite(norm_read):
        precision.update(optimizer, norm, clip_grad_norm)
    elif precision.skips_overflows:
        precision.skip_update()
    else:
        what = f"The loss is {result.loss:.4g}, but the norm of its gradient is {norm_read}"
        raise _diverged(what, where, optimizer, batches, parts)
    return result


def _diverged(
    what: str,
    where: str,
    optimizer: torch.optim.Optimizer,
    batches: list[list[dict[str, Any]]],
    parts: list[Tensor],
) -> DivergenceError:
    """The error of an update that is the same in all processes, with the images that may have caused it.

    These are the images of the batches whose own loss is not finite, or else of all batches.
    """
    finite = [bool(part.isfinite().all()) for part in parts]
    named = [
        (not good, [file for shard in batch for file in shard["info"]])
        for batch, good in zip(batches, finite, strict=True)
    ]
    everywhere = [one for process in gather_from_processes(named) for one in process]
    guilty = [files for bad, files in everywhere if bad] or [files for _, files in everywhere]
    rate = optimizer.param_groups[0]["lr"]
    return DivergenceError(
        f"{what} at {where}, learning rate {rate:.3g}; the weights were not updated. "
        f"Images: {', '.join(file for files in guilty for file in files)}."
    )


def on_device(shard: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A sub-batch in the form that the module takes. Images are copied as bytes and normalized on `device`.

    The copy to a GPU runs while the GPU computes the previous iteration.
    """
    label = torch.from_numpy(shard["seg_label"])
    shard = copy_ahead({**shard, "seg_label": label.pin_memory() if device.type == "cuda" else label}, device)
    return {**shard, "img_data": normalize(shard["img_data"], shard["sizes"])}


def forward(
    net: nn.Module, batch: list[dict[str, Any]], normalizer: "Normalizer", precision: Precision | None = None
) -> tuple[Tensor, Tensor]:
    """The loss that this process backpropagates for a batch, 0-dim, and its `Normalizer.part`."""
    if precision is not None:
        batch = [precision.laid_out(shard) for shard in batch]
    with nullcontext() if precision is None else precision.autocast():
        sums, correct = net(batch, count_correct=True)  # of one device, or stacked over replicas
    return normalizer.to_minimize(sums), normalizer.part(sums.detach(), correct.sum())


class Normalizer:
    """Divides the summed losses of one update by their units: labelled pixels, for most losses.

    The loss of an update is the sum over all labelled pixels, on all devices and in all their sub-batches,
    divided by their number. It is 0 if there are none. With several losses, each has its own units, see
    `Criterion`. The labels determine the units before the first forward pass.

    Args:
        criterion: the loss of the network.
        labels: the labels of all sub-batches on all devices of this process, each (N, h, w).
    """

    def __init__(self, criterion: Criterion, labels: Sequence[Tensor], process: ProcessInfo) -> None:
        counted = [
            torch.cat([criterion.units(label), (label >= 0).sum(dtype=torch.float64).view(1)])
            for label in labels
        ]
        total = sum_over_processes(torch.stack([part.to(process.device) for part in counted]).sum(0))
        self._units = torch.where(total[:-1] > 0, total[:-1], 1)
        self._pixels = total[-1]
        # Filled on the device, because a copy of numbers from Python would wait for the GPU.
        self._weights = torch.stack([total.new_full((), weight) for weight in criterion.weights])
        self._size = process.size

    def to_minimize(self, sums: Tensor) -> Tensor:
        """The part of the loss that this process backpropagates, 0-dim.

        DistributedDataParallel and `sharding` average gradients, so each process multiplies its part by the
        number of processes.

        Args:
            sums: the output of the network: (K,) for K losses; replicas follow one after another.
        """
        return (self._of_each_loss(sums) * (self._weights * self._size / self._units).to(sums)).sum()

    def part(self, sums: Tensor, correct: Tensor) -> Tensor:
        """The contribution of a batch to `means`, (K + 1,) float64. Sum it over sub-batches and processes."""
        return torch.cat([self._of_each_loss(sums).double(), correct.double().view(1)])

    def means(self, total: Tensor) -> Tensor:
        """Loss, accuracy and labelled pixels of the update, (3,) float64, from the sum of all parts."""
        loss = (total[:-1] * self._weights / self._units).sum()
        return torch.stack([loss, total[-1] / self._pixels.clamp(min=1), self._pixels])

    def _of_each_loss(self, sums: Tensor) -> Tensor:
        return sums.reshape(-1, len(self._weights)).sum(0)


class AsyncRead:
    """Copies a few numbers from a device to Python.

    A GPU copies them as soon as they are computed; `values` waits for that copy and for nothing else.

    Args:
        numbers: a one-dimensional tensor.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers
        self._copied: torch.cuda.Event | None = None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(numbers.device))

    def values(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
        return self._numbers.tolist()


def criterion_of(net: nn.Module) -> Criterion:
    """The loss of a network, inside any parallel wrapper."""
    module: Any = net
    while hasattr(module, "module"):
        module = module.module
    return module.crit
