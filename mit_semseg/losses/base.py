"""The base of all losses."""

from typing import ClassVar

import torch
from torch import Tensor, nn


class Loss(nn.Module):
    """A loss as a sum over units. Training divides it by the units of all devices and sub-batches.

    Several devices, or several sub-batches per update, thus give the loss of all their pixels together. A
    mean of means would give more weight to pixels of sparsely labelled shards, and a shard without a label
    would be 0 / 0.

    ``loss(log_probs, label)`` takes log-probabilities (N, C, h, w) and labels (N, h, w) int64, where -1 is
    ignored. It returns the 0-dim sum, computed in float32 at least. Without a labelled pixel, the sum and its
    gradients are 0.

    Attributes:
        options: the fields of `LossOptions` that its constructor takes, in this order.
        parts: number of sums, each with its own units.

    Args:
        class_weights: (C,), the weight of a pixel of each class; None for equal weights.
    """

    options: ClassVar[tuple[str, ...]] = ()
    class_weights: Tensor | None
    parts = 1

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        # Not in the state dict, because it is computed from the config and the training list.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, log_probs: Tensor, label: Tensor) -> Tensor:
        raise NotImplementedError

    def units(self, label: Tensor) -> Tensor:
        """The divisor of the sum, 0-dim float64: the labelled pixels, each times the weight of its class.

        It depends on the labels only, so it is known before the forward pass.
        """
        return self._pixel_weights(label, torch.float64).sum()

    def _pixel_weights(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """(N, h, w): each pixel's class weight, 0 where there is no label."""
        valid = (label >= 0).to(dtype)
        if self.class_weights is None:
            return valid
        return self.class_weights.to(label.device, dtype)[label.clamp(min=0)] * valid


def in_float32(log_probs: Tensor) -> Tensor:
    """``log_probs`` in float32, or in float64 if they already are."""
    return log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))


def of_true_class(log_probs: Tensor, label: Tensor) -> Tensor:
    """(N, h, w): the log-probability of each pixel's class, of class 0 where there is no label."""
    return log_probs.gather(1, label.clamp(min=0).unsqueeze(1)).squeeze(1)
