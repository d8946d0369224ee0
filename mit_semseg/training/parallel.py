"""A network that several processes, or several devices of one process, train together."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..lib.nn import UserScatteredDataParallel
from ..lib.nn.batchnorm import buffers_can_drift
from ..runtime.distributed import ProcessInfo
from .sharding import is_sharded


def parallel(module: nn.Module, process: ProcessInfo, devices: Sequence[torch.device]) -> nn.Module:
    """``module`` in its wrapper for several processes or for replicas in this process, or itself.

    A sharded module needs no wrapper.
    """
    if len(devices) > 1:
        return UserScatteredDataParallel(module, devices)
    return module if process.size == 1 or is_sharded(module) else ProcessParallel(module, process.device)


def exchanging_gradients(net: nn.Module, *, now: bool) -> AbstractContextManager[None]:
    """Inside the block, a backward pass exchanges gradients between processes if ``now`` is true.

    One of a sharded module always does: it keeps no whole gradients.
    """
    return net.exchanging(now) if isinstance(net, ProcessParallel) else nullcontext()


class ProcessParallel(DistributedDataParallel):
    """A network in one of several processes. It can accumulate several backward passes before one exchange.

    Every iteration uses the same parameters, so unused ones are found once, in the first backward pass
    (``static_graph``).

    All processes start with rank 0's parameters and buffers. Synchronized BatchNorm then updates its buffers
    with the same numbers everywhere, so they stay equal without an exchange. Other buffers in the state dict
    may drift apart, such as those of a plain BatchNorm, which sees only the images of its own process. If the
    network has any, rank 0's buffers are broadcast before each forward pass.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        ids = [device.index] if device.type == "cuda" else None
        super().__init__(module, device_ids=ids, static_graph=True)
        self._graph_is_known = False
        self._buffers_can_drift = buffers_can_drift(module)

    def will_sync_module_buffers(self) -> bool:
        """Whether `DistributedDataParallel` broadcasts rank 0's buffers before a forward pass."""
        # The constructor's argument broadcast_buffers=False would switch off the broadcast at the start, too.
        return self._buffers_can_drift and super().will_sync_module_buffers()

    def exchanging(self, now: bool) -> AbstractContextManager[None]:
        """Inside the block, a backward pass exchanges the gradients if ``now`` is true."""
        # The first pass always exchanges. Its gradients are then equal in all processes, so the mean in a
        # later exchange does not change them.
        if not self._graph_is_known:
            self._graph_is_known = True
            return _without_stride_warning()
        return nullcontext() if now else self.no_sync()


@contextmanager
def _without_stride_warning() -> Iterator[None]:
    """Inside the block, torch does not warn about an extra copy of gradients. It would warn only once.

    In channels-last, the gradients of depthwise weights have another layout than the weights. They are small,
    so the copy costs little.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        yield
