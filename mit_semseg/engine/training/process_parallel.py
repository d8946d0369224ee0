"""DistributedDataParallel for updates of several backwards each."""

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class ProcessParallel(DistributedDataParallel):
    """A network in one process of several, whose backward may leave the exchange of gradients to a later one.

    What an iteration uses never changes, so that parameters that it does not use are found once, in the first
    backward (``static_graph``).
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        # In channels-last, torch lays out the gradients of depthwise weights in another way, and copies those
        # few numbers once more to exchange them.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        ids = [device.index] if device.type == "cuda" else None
        super().__init__(module, device_ids=ids, static_graph=True)
        self._graph_is_known = False

    def exchanging(self, now: bool) -> AbstractContextManager[None]:
        """In the block, a backward exchanges the gradients ``now``, or leaves that to a later one."""
        # The first one has to. What it exchanged is the same in all processes, so that the mean that a later
        # one takes leaves it as it is.
        if now or not self._graph_is_known:
            self._graph_is_known = True
            return nullcontext()
        return self.no_sync()
