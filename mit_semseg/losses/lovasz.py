"""Lovász-softmax: intersection over union itself, made continuous."""

import torch
from torch import Tensor

from .base import Loss, in_float32


class LovaszSoftmax(Loss):
    """The Lovász extension of one minus IoU, mean over the classes that occur, times the labelled pixels.

    For a class, each labelled pixel of a sub-batch has an error: 1 - p where its label is the class, else p.
    From the largest error to the smallest, each is multiplied by the increase of 1 - IoU when its pixel
    becomes wrong as well.

    The loss is not a sum over pixels. Over several devices or sub-batches, it is the mean of their losses,
    weighted by their labelled pixels.

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
        # Linear in the errors while their order stays the same, so this has the right value and gradient.
        return ((slope * probs).sum() + offset) * valid.sum() / max(len(present), 1)


def _growth(probs: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """The increase of 1 - IoU of a class by each pixel, if the pixels with larger errors are already wrong.

    Args:
        probs: of the class, (N, h, w).
        truth, valid: (N, h, w) bool; whether the pixel's label is the class, and whether it has a label.

    Returns: (N, h, w); 0 where there is no label.
    """
    errors = torch.where(truth, 1 - probs, probs).masked_fill(~valid, -1)
    order = _descending(errors.flatten())  # unlabelled pixels last
    true = truth.flatten()[order]
    missed = true.cumsum(0, dtype=torch.int32)
    found = truth.sum() - missed
    rank = torch.arange(1, 1 + len(order), dtype=torch.int32, device=order.device)
    # IoU is found / union. A pixel of the class takes one from the former, another adds one to the latter.
    # The differences are formulas, because subtracting neighbouring values would cancel in float32.
    union = (found + rank).to(probs)
    growth = torch.empty_like(errors)
    growth.view(-1)[order] = torch.where(true, 1 / union, found / (union * (union - 1)))
    return growth.masked_fill_(~valid, 0)


def _descending(values: Tensor) -> Tensor:
    """The stable order of values from the largest to the smallest, (N,) int64.

    On a CPU, NumPy sorts integers several times as fast as torch sorts floats with their indices. So the bits
    of a float are made an integer of the same order, and its index is appended, which also makes it unique.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.argsort(descending=True, stable=True)
    bits = values.view(torch.int32)
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats are stored as sign and magnitude
    keys = ascending.bitwise_not_().long().bitwise_left_shift_(32)
    keys.bitwise_or_(torch.arange(len(keys)))
    keys.numpy().sort()
    return keys.bitwise_and_(0xFFFFFFFF)
