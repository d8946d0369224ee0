"""Lovász-softmax: intersection over union itself, made continuous."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..runtime.threads import map_single_threaded
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
        log_probs = in_float32(log_probs)
        with torch.no_grad():
            by_class = log_probs.movedim(1, 0)  # each is sorted on its own
            probs = torch.exp(by_class, out=by_class.new_empty(by_class.shape))
            slopes = torch.zeros_like(probs)
            label = label.flatten()
            present = torch.bincount(label + 1)[1:].nonzero().flatten().tolist()
            pieces = ((probs[n].flatten(), label, n, slopes[n].view(-1)) for n in present)
            threads = torch.get_num_threads() if label.device.type == "cpu" else 1
            # The loss is linear in the probabilities as long as the errors keep their order.
            constant = sum(map_single_threaded(_slopes, pieces, threads=threads, depth=0))
            gradient = slopes.mul_(probs)  # by the log-probabilities
            pixels = int((label >= 0).sum()) / max(len(present), 1)
            value = (gradient.sum() + constant) * pixels
            gradient *= pixels
        return _WithGradient.apply(log_probs, value, gradient.movedim(0, 1))


class _WithGradient(Function):
    """``apply(input, value, gradient)`` is the value as a function of the input, with this gradient."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return output_grad * gradient, None, None


def _slopes(probs: Tensor, label: Tensor, number: int, slopes: Tensor) -> Tensor:
    """The loss of a class as a linear function of its probabilities: slopes * probs, summed, plus a constant.

    Args:
        probs: of the class, (n,).
        label: (n,) int64; -1 is unlabelled.
        number: of the class, which must occur.
        slopes: (n,), are overwritten: the increase of 1 - IoU by a pixel if the pixels with larger errors are
            already wrong, negative where the label is the class.

    Returns: the constant, 0-dim.
    """
    truth = label == number
    errors = torch.where(truth, 1 - probs, probs).masked_fill_(label < 0, -1)  # unlabelled pixels last
    order, true = _descending(errors, truth)
    missed = true.cumsum(0, dtype=torch.int32)
    found = missed[-1] - missed
    rank = torch.arange(1, 1 + len(order), dtype=torch.int32, device=order.device)
    # IoU is found / union. A pixel of the class takes one from the former, another adds one to the latter.
    # The differences are formulas, because subtracting neighbouring values would cancel in float32.
    # Of unlabelled pixels they are 0, because all pixels of the class are missed before.
    union = (found + rank).to(probs)
    growth = torch.where(true, 1 / union, found / (union * (union - 1)))
    slopes.scatter_(0, order, torch.where(true, -growth, growth))
    return growth.dot(true.to(growth))


def _descending(errors: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The stable order of errors from the largest to the smallest, (n,) int64, and the truth in this order.

    On a CPU, NumPy sorts integers several times as fast as torch sorts floats with their indices. So the bits
    of a float are made an integer of the same order. Its index is appended, which also makes it unique, and
    its truth, which need not be looked up then.
    """
    if errors.device.type != "cpu" or errors.dtype != torch.float32 or len(errors) >= 2**31:
        order = errors.argsort(descending=True, stable=True)
        return order, truth[order]
    bits = errors.view(torch.int32)
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats are stored as sign and magnitude
    keys = ascending.bitwise_not_().long().bitwise_left_shift_(32)
    keys.bitwise_or_(torch.arange(len(keys)).bitwise_left_shift_(1).bitwise_or_(truth))
    keys.numpy().sort()
    true = keys.bitwise_and(1).bool()
    return keys.bitwise_and_(0xFFFFFFFF).bitwise_right_shift_(1), true
