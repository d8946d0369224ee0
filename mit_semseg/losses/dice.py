"""Soft Dice loss: the overlap of each class with its label."""

import torch
from torch import Tensor

from .base import Loss, in_float32


class Dice(Loss):
    """One minus the mean Dice coefficient of the classes that occur, times the labelled pixels.

    The coefficient of a class with probabilities p and label g, 0 or 1, is ``2 sum(p g) / (sum(p p) +
    sum(g))`` over the labelled pixels of a sub-batch.

    The loss is not a sum over pixels. Over several devices or sub-batches, it is the mean of their losses,
    weighted by their labelled pixels.

    Source: Milletari et al. 2016, V-Net, section 3.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, log_probs: Tensor, label: Tensor) -> Tensor:
        valid = label >= 0
        probs = in_float32(log_probs).exp() * valid.unsqueeze(1)
        truth = label.unsqueeze(1) == torch.arange(probs.size(1), device=label.device).view(-1, 1, 1)
        over_pixels = (0, 2, 3)
        size = truth.sum(over_pixels)
        present = size > 0
        overlap = torch.where(truth, probs, 0).sum(over_pixels)
        both = probs.square().sum(over_pixels) + size
        missing = torch.where(present, 1 - 2 * overlap / torch.where(present, both, 1), 0)
        return missing.sum() / present.sum().clamp(min=1) * valid.sum()
