"""From sums over the pixels of a device to the loss of all devices and sub-batches of an update."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...distributed import Place, sum_over_processes
from ...losses import Criterion


class Shown(NamedTuple):
    """Means over the pixels that have a label, on all devices; accuracy as a share."""

    loss: float
    accuracy: float


class Normalizer:
    """What the losses and the accuracy of one update are divided by.

    The loss of an update is the sum over the pixels that have a label, on all devices and in all their
    sub-batches, divided by their number; 0 where there are none. With several losses each has units of its
    own, see `Criterion`. All are known from the labels, before the first forward.

    Args:
        criterion: that of the network.
        labels: of all devices of this process and all their sub-batches, each (N, h, w).
    """

    def __init__(self, criterion: Criterion, labels: Sequence[Tensor], place: Place) -> None:
        counted = [
            torch.cat([criterion.units(label), (label >= 0).sum(dtype=torch.float64).view(1)])
            for label in labels
        ]
        total = sum_over_processes(torch.stack([part.to(place.device) for part in counted]).sum(0))
        self._units = torch.where(total[:-1] > 0, total[:-1], 1)
        self._valid = total[-1].clamp(min=1)
        # Filled there, because a GPU that is sent numbers from Python is waited for.
        self._weights = torch.stack([total.new_full((), weight) for weight in criterion.weights])
        self._size = place.size

    def to_minimize(self, sums: Tensor) -> Tensor:
        """This process's part of the loss, 0-dim, to be backpropagated.

        DistributedDataParallel averages gradients, so that each process multiplies its part by the number of
        processes.

        Args:
            sums: what the network returned: (K,) for K losses, those of replicas one behind the other.
        """
        return (self._of_each_loss(sums) * (self._weights * self._size / self._units).to(sums)).sum()

    def part(self, sums: Tensor, correct: Tensor) -> Tensor:
        """What is to be added up over sub-batches and processes for `shown`; (K + 1,) float64."""
        return torch.cat([self._of_each_loss(sums).double(), correct.double().view(1)])

    def shown(self, total: Tensor) -> Shown:
        """What the update shows of itself, given the sum of all parts."""
        return Shown(*self.means(total).tolist())

    def means(self, total: Tensor) -> Tensor:
        """The same, (2,), where it is computed."""
        loss = (total[:-1] * self._weights / self._units).sum()
        return torch.stack([loss, total[-1] / self._valid])

    def _of_each_loss(self, sums: Tensor) -> Tensor:
        return sums.reshape(-1, len(self._weights)).sum(0)


def criterion_of(net: nn.Module) -> Criterion:
    """The loss of a network, in whatever wrapper it is trained."""
    module: Any = net
    while hasattr(module, "module"):
        module = module.module
    return module.crit
