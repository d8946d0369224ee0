"""The computations of one device on its own shard (N, C, ...), in as few passes over memory as torch allows.

On CUDA these are the fused kernels of ``torch.nn.SyncBatchNorm``. Elsewhere they are plain torch operations;
``batch_norm`` with given statistics computes ``a x + b`` per channel in one pass.
"""

import torch
from torch import Tensor


def statistics_dtype(x: Tensor) -> torch.dtype:
    """float64 for float64, float32 for all shorter types."""
    return torch.promote_types(x.dtype, torch.float32)


def memory_format(x: Tensor) -> torch.memory_format:
    """The dense layout for ``x``: channels-last if ``x`` has it, else contiguous."""
    if not x.is_contiguous():
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
        if x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d):
            return torch.channels_last_3d
    return torch.contiguous_format


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel, two of (C,). ``x`` must not be empty."""
    if x.is_cuda:
        return torch.batch_norm_update_stats(x, None, None, 0.0)
    # On the CPU that call is slower, and loses digits of channels-last data in a single float32 sum.
    mean = x.mean(_all_but_channels(x), dtype=statistics_dtype(x))
    variance = (x - per_channel(mean, x)).square_().mean(_all_but_channels(x))
    return mean, variance


def normalize(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, invstd: Tensor) -> Tensor:
    """(x - mean) * invstd * weight + bias, in the type of ``x``."""
    if x.numel() == 0:
        return torch.empty_like(x)
    if x.is_cuda:
        return torch.batch_norm_elemt(x, weight, bias, mean, invstd, 0.0)
    return _affine(x, mean, invstd if weight is None else weight * invstd, bias)


def backward_sums(dy: Tensor, x: Tensor, mean: Tensor, invstd: Tensor) -> Tensor:
    """Sums over the shard of dy and of dy * (x - mean), (2, C)."""
    if x.numel() == 0:
        return mean.new_zeros(2, len(mean))
    if x.is_cuda:
        return torch.stack(
            torch.batch_norm_backward_reduce(dy, x, mean, invstd, None, True, False, False)[:2]
        )
    # With a given variance of 1, the gradients of weight and bias are the two sums.
    _, sum_dy_xmu, sum_dy = torch.ops.aten.native_batch_norm_backward(
        dy, x, None, mean, torch.ones_like(mean), None, None, False, 0.0, [False, True, True]
    )
    return torch.stack([sum_dy, sum_dy_xmu])


def input_gradient(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    mean_dy: Tensor,
    mean_dy_xmu: Tensor,
) -> Tensor:
    """weight * invstd * (dy - mean_dy - (x - mean) * invstd^2 * mean_dy_xmu), in the type of ``x``.

    Args:
        mean_dy, mean_dy_xmu: `backward_sums`, averaged over all shards; (C,) each.
    """
    if x.numel() == 0:
        return torch.empty_like(x)
    if x.is_cuda:
        # The kernel divides its sums by a count. These are already averages.
        one = torch.ones(1, dtype=torch.int32, device=x.device)
        return torch.batch_norm_backward_elemt(dy, x, mean, invstd, weight, mean_dy, mean_dy_xmu, one)
    scale = invstd if weight is None else weight * invstd
    grad = _affine(x, mean, -scale * invstd.square() * mean_dy_xmu, -scale * mean_dy)
    return grad.addcmul_(dy, per_channel(scale, x))


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """``values`` (C,) in a shape that broadcasts against ``x``."""
    return values.view(1, -1, *[1] * (x.dim() - 2))


def _affine(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """(x - mean) * scale + shift per channel, in one pass."""
    one = torch.ones_like(mean)
    return torch.batch_norm(x, scale, shift, mean, one, False, 0.0, 0.0, False)


def _all_but_channels(x: Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]
