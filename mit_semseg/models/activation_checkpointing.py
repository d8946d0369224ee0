"""Activation checkpointing: keep the inputs of blocks only, and recompute the rest in the backward pass.

Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class CheckpointedSequential(nn.Sequential):
    """`torch.nn.Sequential` of blocks that can be checkpointed, see `checkpoint_activations`."""

    checkpointing = False
    """Whether only the inputs of the blocks are kept for the backward pass."""

    def forward(self, input: Any) -> Any:
        for block in self:
            input = self.run(block, input)
        return input

    def run(self, block: nn.Module, input: Any) -> Any:
        """The output of one of the blocks."""
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return block(input)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _statistics_kept(block)

        return checkpoint(block, input, use_reentrant=False, context_fn=contexts)


def checkpoint_activations(encoder: nn.Module) -> None:
    """Checkpoint every `CheckpointedSequential` of an encoder: one more forward pass, and far less memory.

    Training ends with the same weights and the same BatchNorm statistics.

    Raises: ValueError if the encoder has none.
    """
    parts = [module for module in encoder.modules() if isinstance(module, CheckpointedSequential)]
    if not parts:
        raise ValueError(
            f"{type(encoder).__name__} has no CheckpointedSequential, so its activations cannot be recomputed"
        )
    for part in parts:
        part.checkpointing = True


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Inside the block, BatchNorm computes as usual, but its updates of the statistics are discarded."""
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
