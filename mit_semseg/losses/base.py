"""What all losses have in common."""

import torch
from torch import Tensor, nn


class Loss(nn.Module):
    """A loss as a sum over units, which the training divides by the units of all devices and sub-batches.

    So several devices, or several sub-batches an update, give the loss of all their pixels together: a mean
    of each device's mean would give pixels of sparsely labelled shards more weight, and a shard without a
    label would be 0 / 0.

    ``loss(log_probs, label)`` takes log-probabilities (N, C, h, w) and labels (N, h, w) int64, where -1 is
    ignored, and returns the 0-dim sum, computed in float32 at least. Without a labelled pixel it is 0, and
    so are its gradients.

    Args:
        class_weights: (C,), how much a pixel of each class counts; None: all alike.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        # Not among the weights of the module: it follows from the config and the list.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, log_probs: Tensor, label: Tensor) -> Tensor:
        raise NotImplementedError

    def units(self, label: Tensor) -> Tensor:
        """What the sum is to be divided by, 0-dim float64: labelled pixels, each times its class's weight.

        It depends on the labels alone, so that it is known before the scores are.
        """
        return self._pixel_weights(label, torch.float64).sum()

    def _pixel_weights(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """(N, h, w): each pixel's class weight, 0 where there is no label."""
        valid = (label >= 0).to(dtype)
        if self.class_weights is None:
            return valid
        return self.class_weights.to(label.device, dtype)[label.clamp(min=0)] * valid


def in_float32(log_probs: Tensor) -> Tensor:
    """``log_probs`` in float32, or float64 if that is what they are in."""
    return log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))


def of_true_class(log_probs: Tensor, label: Tensor) -> Tensor:
    """(N, h, w): the log-probability of each pixel's class, of class 0 where there is no label."""
    return log_probs.gather(1, label.clamp(min=0).unsqueeze(1)).squeeze(1)
