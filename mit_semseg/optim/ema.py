"""An exponential moving average of a module's weights. It often scores higher than the last weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average ``a`` of each parameter ``p``. Every update does ``a += (1 - d) * (p - a)``.

    ``d`` is ``decay``, but at most (1 + n) / (10 + n) in update n, counted from 0, to forget the first
    weights quickly. Averages are float32, or float64 if the module is. Buffers of the state dict are copied,
    not averaged, because BatchNorm's statistics are averages already. Other buffers are ignored: they are
    constants, or follow from the config, such as the class weights of a loss.

    Args:
        module: the module without a parallel wrapper. The average starts from its weights.
        decay: at least 0 and below 1; 0.9999 averages over about the last 10 000 updates.

    Raises: ValueError for another decay.

    Source: Polyak and Juditsky 1992, Acceleration of Stochastic Approximation by Averaging; with this decay,
    Szegedy et al. 2016, Rethinking the Inception Architecture, section 8.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}, but takes a number from 0 to below 1")
        self.decay = decay
        self.updates = 0
        self._parameters = {name: _copy(value) for name, value in module.named_parameters()}
        saved = module.state_dict().keys()
        self._buffers = {
            name: value.detach().clone() for name, value in module.named_buffers() if name in saved
        }

    def begin_as(self, module: nn.Module) -> None:
        """Start again from the present weights of ``module``."""
        self.updates = 0
        _assign(
            [*self._parameters.values(), *self._buffers.values()],
            [*module.parameters(), *self._buffers_of(module)],
        )

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Add the present weights to the average. Call it after each step of the optimizer."""
        averages = list(self._parameters.values())
        new = [value.to(average) for value, average in zip(module.parameters(), averages, strict=True)]
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        if averages:
            torch._foreach_lerp_(averages, new, 1 - decay)
        if self._buffers:
            torch._foreach_copy_(list(self._buffers.values()), self._buffers_of(module))
        self.updates += 1

    @contextmanager
    def weights_in(self, module: nn.Module) -> Iterator[None]:
        """Inside the block, ``module`` has the averaged weights; after it, exactly its own again."""
        own = [*module.parameters(), *self._buffers_of(module)]
        kept = [value.detach().clone() for value in own]
        try:
            _assign(own, [*self._parameters.values(), *self._buffers.values()])
            yield
        finally:
            _assign(own, kept)

    def state_dict(self) -> dict[str, Any]:
        """The state for :meth:`load_state_dict`. Its tensors are the average's own, not copies."""
        return {
            "updates": self.updates,
            "parameters": dict(self._parameters),
            "buffers": dict(self._buffers),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load an average from :meth:`state_dict`.

        Raises: ValueError if it is not such a state, or that of another module. Nothing is loaded then.
        """
        own = {"parameters": self._parameters, "buffers": self._buffers}
        if not isinstance(state, dict) or state.keys() != {"updates", *own}:
            raise ValueError("not an average of weights: it must have updates, parameters and buffers")
        for kind, values in own.items():
            names = values.keys() ^ state[kind].keys()
            if kind == "buffers":  # releases before 2.1 also stored buffers outside of the state dict
                names &= values.keys()
            for name in sorted(names):
                raise ValueError(f"average of another module: {name} is in only one of them")
            for name, value in values.items():
                if state[kind][name].shape != value.shape:
                    raise ValueError(
                        f"average of another module: {name} is {tuple(state[kind][name].shape)} there, "
                        f"{tuple(value.shape)} here"
                    )
        for kind, values in own.items():
            _assign(list(values.values()), [state[kind][name] for name in values])
        self.updates = int(state["updates"])

    def _buffers_of(self, module: nn.Module) -> list[Tensor]:
        buffers = dict(module.named_buffers())
        return [buffers[name] for name in self._buffers]


def _copy(value: Tensor) -> Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32), copy=True)


@torch.no_grad()
def _assign(values: list[Tensor], new: list[Tensor]) -> None:
    for value, other in zip(values, new, strict=True):
        value.copy_(other)
