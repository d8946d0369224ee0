"""Cross-entropy of the hard pixels only."""

import math

import torch
from torch import Tensor

from .base import Loss, in_float32, of_true_class


class OHEM(Loss):
    """Online hard example mining: the mean cross-entropy of the hard pixels, times the labelled pixels.

    A pixel is hard if the probability of its true class is below ``threshold``, or if it is among the lowest
    ones of the labelled pixels, whose share is ``min_kept``. With class weights, the mean is weighted.

    Each device selects the hard pixels of each sub-batch on its own. Over several devices or sub-batches, the
    loss is the mean of their losses, weighted by their labelled pixels.

    Args:
        threshold: above 0, up to 1.
        min_kept: from 0 to 1.

    Source: Shrivastava et al. 2016, Training Region-based Object Detectors with Online Hard Example Mining;
    on pixels with a threshold, Wu et al. 2016, Bridging Category-level and Instance-level Semantic Image
    Segmentation.
    """

    options = ("class_weights", "ohem_threshold", "ohem_min_kept")

    def __init__(
        self, class_weights: Tensor | None = None, threshold: float = 0.7, min_kept: float = 1 / 16
    ) -> None:
        super().__init__(class_weights)
        self.threshold = threshold
        self.min_kept = min_kept

    def forward(self, log_probs: Tensor, label: Tensor) -> Tensor:
        log_p = of_true_class(in_float32(log_probs), label)
        valid = label >= 0
        weights = self._pixel_weights(label, log_p.dtype) * self._is_hard(log_p.detach(), valid)
        total = weights.sum()
        mean = -(weights * log_p).sum() / torch.where(total > 0, total, 1)
        return mean * valid.sum()

    def units(self, label: Tensor) -> Tensor:
        return (label >= 0).sum(dtype=torch.float64)

    def _is_hard(self, log_p: Tensor, valid: Tensor) -> Tensor:
        """(N, h, w) bool. Pixels that tie at the limit of ``min_kept`` are all hard."""
        ascending = log_p.masked_fill(~valid, torch.inf).flatten().sort().values
        # Tensors, because reading a number from a GPU waits for all of its work.
        least = torch.ceil(valid.sum(dtype=torch.float64) * self.min_kept).long()
        highest = torch.where(least > 0, ascending[(least - 1).clamp(min=0)], -torch.inf)
        return valid & ((log_p < math.log(self.threshold)) | (log_p <= highest))
