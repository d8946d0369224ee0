"""Lovász-softmax: intersection over union itself, made continuous."""

import torch
from torch import Tensor

from .base import Loss, in_float32


class LovaszSoftmax(Loss):
    """The Lovász extension of one minus IoU, mean over the classes that occur, times the labelled pixels.

    For a class, each labelled pixel of a sub-batch has an error: 1 - p where its label is the class, else p.
    Taken from the largest error to the smallest, each is multiplied by what 1 - IoU grows by if its pixel is
    wrong, too.

    It is no sum over pixels. Over several devices or sub-batches, the loss is the mean of theirs, weighted by
    labelled pixels.

    Source: Berman et al. 2018, The Lovász-Softmax loss, algorithm 1.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, log_probs: Tensor, label: Tensor) -> Tensor:
        probs = in_float32(log_probs).exp()
        valid = label >= 0
        present = torch.unique(label[valid]).tolist()
        slope = torch.zeros_like(probs)
        offset = probs.new_zeros(())
        for number in present:
            truth = label == number
            growth = _growth(probs.detach()[:, number], truth, valid)
            slope[:, number] = torch.where(truth, -growth, growth)
            offset += growth[truth].sum()
        # Linear in the errors as long as their order stays, so this has the value and the gradient in one.
        return ((slope * probs).sum() + offset) * valid.sum() / max(len(present), 1)


def _growth(probs: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """What each pixel adds to 1 - IoU of a class if the pixels of larger errors are wrong already.

    Args:
        probs: of the class, (N, h, w).
        truth, valid: (N, h, w) bool; whether the pixel's label is the class, and whether it has one.

    Returns: (N, h, w); 0 where there is no label.
    """
    errors = torch.where(truth, 1 - probs, probs).masked_fill(~valid, -1)
    order = errors.flatten().argsort(descending=True, stable=True)  # without a label: last
    true = truth.flatten()[order]
    size = truth.sum()
    missed = true.cumsum(0)
    # In float64: differences of neighbours among a million are beyond float32.
    loss = 1 - (size - missed).double() / (size + (~true).cumsum(0)).double()
    growth = torch.empty_like(errors)
    growth.view(-1)[order] = torch.diff(loss, prepend=loss.new_zeros(1)).to(growth)
    return growth.masked_fill(~valid, 0)
