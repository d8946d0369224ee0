"""Focal loss: cross-entropy with less weight on pixels that are already right."""

import torch
from torch import Tensor

from .base import Loss, in_float32, of_true_class


class Focal(Loss):
    """``-(1 - p)**gamma log p`` for the probability p of the true class, summed over the labelled pixels.

    Args:
        gamma: 0 is cross-entropy. Larger values give less weight to pixels that are already right.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, section 3.
    """

    options = ("class_weights", "focal_gamma")

    def __init__(self, class_weights: Tensor | None = None, gamma: float = 2.0) -> None:
        super().__init__(class_weights)
        self.gamma = gamma

    def forward(self, log_probs: Tensor, label: Tensor) -> Tensor:
        log_p = of_true_class(in_float32(log_probs), label)
        # The slope of a power below 1 is infinite at 0.
        missing = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(self._pixel_weights(label, log_p.dtype) * missing**self.gamma * log_p).sum()
