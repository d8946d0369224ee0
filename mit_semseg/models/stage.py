"""Blocks in a row, which can forget what they computed inside and compute it again for the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Stage(nn.Sequential):
    """`torch.nn.Sequential` of blocks that `recompute_activations` knows.

    Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost.
    """

    recompute = False
    """Whether only the inputs of the blocks are kept for the backward pass."""

    def forward(self, input: Any) -> Any:
        for block in self:
            input = self.run(block, input)
        return input

    def run(self, block: nn.Module, input: Any) -> Any:
        """The output of one of the blocks."""
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return block(input)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _statistics_kept(block)

        return checkpoint(block, input, use_reentrant=False, context_fn=contexts)


def recompute_activations(encoder: nn.Module) -> None:
    """Let every `Stage` of an encoder recompute, which takes a forward pass more and far less memory.

    The weights and the statistics of BatchNorm end as they would without it.

    Raises: ValueError if it has no stage.
    """
    stages = [module for module in encoder.modules() if isinstance(module, Stage)]
    if not stages:
        raise ValueError("the encoder has no stages whose activations could be recomputed")
    for stage in stages:
        stage.recompute = True


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """In the block, BatchNorm computes as ever, but what it makes of its statistics is thrown away."""
    layers = [layer for layer in block.modules() if isinstance(layer, _BatchNorm)]
    kept = [dict(layer.named_buffers(recurse=False)) for layer in layers]
    for layer, buffers in zip(layers, kept, strict=True):
        for name, buffer in buffers.items():
            setattr(layer, name, buffer.clone())
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)
