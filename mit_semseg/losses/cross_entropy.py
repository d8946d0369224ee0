"""Cross-entropy, as the published models were trained, with optional label smoothing."""

import torch.nn.functional as F
from torch import Tensor

from .base import Loss, in_float32


class CrossEntropy(Loss):
    """The negative log-probability of the true class, summed over the labelled pixels.

    With ``smoothing`` s, the target is 1 - s + s / C for the true class and s / C for the others. Class
    weights work as in torch: the part 1 - s of a pixel takes the weight of its true class, and each part
    s / C takes the weight of its own class.

    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, section 7 (label smoothing).
    """

    options = ("class_weights", "label_smoothing")

    def __init__(self, class_weights: Tensor | None = None, smoothing: float = 0.0) -> None:
        super().__init__(class_weights)
        self.smoothing = smoothing

    def forward(self, log_probs: Tensor, label: Tensor) -> Tensor:
        log_probs = in_float32(log_probs)
        weights = None if self.class_weights is None else self.class_weights.to(log_probs.dtype)
        loss = F.nll_loss(log_probs, label, weights, ignore_index=-1, reduction="sum")
        if not self.smoothing:
            return loss
        if weights is not None:
            log_probs = log_probs * weights.view(-1, 1, 1)
        of_all = -log_probs.mean(1).masked_fill(label < 0, 0).sum()
        return (1 - self.smoothing) * loss + self.smoothing * of_all
