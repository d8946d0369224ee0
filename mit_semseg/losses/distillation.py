"""Distillation: a network learns the probabilities of teachers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Loss, in_float32


class Distillation(Loss):
    """The Kullback-Leibler divergence between the probabilities of teachers and of a network.

    It is summed over all pixels, also over those without a label. The temperature is 1.

    ``loss(log_probs, label, taught)`` takes the probabilities of the teachers, (N, C, h, w), as its last
    argument. Without them, as when a model is only timed, the sum is 0.

    Source: Hinton et al. 2015, Distilling the Knowledge in a Neural Network, section 2; pixel by pixel as in
    Liu et al. 2019, Structured Knowledge Distillation for Semantic Segmentation, section 3.1.
    """

    def forward(self, log_probs: Tensor, label: Tensor, taught: Tensor | None = None) -> Tensor:
        log_probs = in_float32(log_probs)
        if taught is None:
            return log_probs.sum() * 0
        return F.kl_div(log_probs, taught.to(log_probs.dtype), reduction="sum")

    def units(self, label: Tensor) -> Tensor:
        return label.new_full((), label.numel(), dtype=torch.float64)
