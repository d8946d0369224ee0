"""BatchNorm with the training statistics of the whole batch, over all devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from . import kernels
from .sync import Exchange, process_exchange

_Layer = TypeVar("_Layer", bound="SynchronizedBatchNorm")


class SynchronizedBatchNorm(_BatchNorm):
    """BatchNorm over the batches of all devices that train together; the base of the 1d, 2d and 3d layers.

    In training with peers, a channel's mean and variance are those of its values on all devices together.
    Devices may have batches and images of different sizes; an empty batch has no weight. The output is
    ``(x - mean) / sqrt(max(var, eps)) * weight + bias``, as the published models were trained. The running
    average takes the unbiased variance. Statistics are float32 at least, under autocast too. A layer costs
    one collective in the forward pass and one in the backward pass.

    Peers are the other replicas if a parallel wrapper of this package runs the layer, and otherwise the ranks
    of the default process group if it has more than one. Without peers, and in evaluation, the layer is
    PyTorch's own BatchNorm, which divides by ``sqrt(var + eps)``. So one device and several differ in
    channels whose variance is not far above eps. The layer has the parameters, buffers and state dict of
    `torch.nn.BatchNorm2d`, and can be copied, pickled and exported in the same way.

    Source: Peng et al. 2018, MegDet, section 3.3 (statistics over devices).
    """

    exchange: Exchange | None = None
    """Set on the layers of replicas for one forward pass. Other layers look for a process group."""

    frozen = False
    """Whether the layer stays in evaluation mode, see `convert.freeze_batch_norm`."""

    def train(self: _Layer, mode: bool = True) -> _Layer:
        return super().train(mode and not self.frozen)

    def forward(self, input: Tensor) -> Tensor:
        exchange = (self.exchange or process_exchange()) if self.training else None
        if exchange is None:
            return super().forward(input)
        self._check_input_dim(input)
        if input.size(1) != self.num_features:
            raise ValueError(
                f"{type(self).__name__} has {self.num_features} channels, but its input has {input.size(1)}: "
                f"{tuple(input.shape)}."
            )
        shard = _Shard(input, self.weight, self.bias)
        output, moments = exchange.meet(shard, partial(_normalize_together, exchange, self.eps))
        if self.track_running_stats and exchange.tracks_statistics:
            self._track(moments)
        return output

    @torch.no_grad()
    def _track(self, moments: "_Moments") -> None:
        # In place, because replica 0 shares these tensors with the master.
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(moments.mean.to(self.running_mean), momentum)
        self.running_var.lerp_(moments.unbiased_variance.to(self.running_var), momentum)


class SynchronizedBatchNorm1d(SynchronizedBatchNorm):
    """Synchronized BatchNorm over (N, C) or (N, C, L); see `SynchronizedBatchNorm`."""

    def _check_input_dim(self, input: Tensor) -> None:
        _check_dimensions(self, input, 2, 3)


class SynchronizedBatchNorm2d(SynchronizedBatchNorm):
    """Synchronized BatchNorm over (N, C, H, W); see `SynchronizedBatchNorm`."""

    def _check_input_dim(self, input: Tensor) -> None:
        _check_dimensions(self, input, 4)


class SynchronizedBatchNorm3d(SynchronizedBatchNorm):
    """Synchronized BatchNorm over (N, C, D, H, W); see `SynchronizedBatchNorm`."""

    def _check_input_dim(self, input: Tensor) -> None:
        _check_dimensions(self, input, 5)


class _Shard(NamedTuple):
    """One device's input, and the layer's parameters on that device."""

    input: Tensor
    weight: Tensor | None
    bias: Tensor | None


@dataclass(frozen=True)
class _Moments:
    """Mean and variance per channel of data on several devices; float32, or float64 for float64 data.

    Each device measures its own count, mean and sum of squares about that mean, and `_combine` joins them.
    Sums of plain squares would be easier to add, but lose the variance if the mean is large against it.

    Source: Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample
    variances.
    """

    mean: Tensor
    squares: Tensor
    """Sum of squares about the mean, (C,)."""
    count: Tensor
    """Values per channel, at least 1, a scalar."""

    @property
    def variance(self) -> Tensor:
        return self.squares / self.count

    @property
    def unbiased_variance(self) -> Tensor:
        """The estimate for the running average; 0 for a single value."""
        return self.squares / (self.count - 1).clamp_min(1)


def _measure(x: Tensor) -> Tensor:
    """One row (2 C + 1,): mean, sum of squares about it, count. Zeros if ``x`` (N, C, ...) is empty."""
    channels = x.size(1)
    dtype = kernels.statistics_dtype(x)
    count = x.numel() // channels
    if count == 0:
        return torch.zeros(2 * channels + 1, dtype=dtype, device=x.device)
    mean, variance = kernels.mean_and_variance(x)
    return torch.cat([mean, variance * count, mean.new_full((1,), count)])


def _combine(rows: Tensor) -> _Moments:
    """The moments of all data, from the rows of `_measure`, (n, 2 C + 1). Empty shards have no weight."""
    channels = rows.size(1) // 2
    means, squares, counts = rows.split([channels, channels, 1], dim=1)
    total = counts.sum().clamp_min(1)
    # Offsets from the first mean are small, so a large common mean costs them no digits.
    offsets = means - means[0]
    offset = (offsets * (counts / total)).sum(0)
    squares = torch.addcmul(squares, counts, (offsets - offset).square()).sum(0)
    return _Moments(means[0] + offset, squares, total)


def _normalize_together(
    exchange: Exchange, eps: float, shards: list[_Shard]
) -> list[tuple[Tensor, _Moments]]:
    """Each shard, normalized by the moments of all shards here and in other processes, and those moments."""
    inputs = [shard.input.contiguous(memory_format=kernels.memory_format(shard.input)) for shard in shards]
    with torch.no_grad():
        rows = torch.stack([_measure(x).to(inputs[0].device) for x in inputs])
        moments = _combine(exchange.gather(rows))
    weights, biases = [shard.weight for shard in shards], [shard.bias for shard in shards]
    outputs = _Normalize.apply(exchange, eps, moments, *inputs, *weights, *biases)
    return [(output, moments) for output in outputs]


class _Normalize(Function):
    """One autograd node for the n shards of this process: n inputs, n weights, n biases -> n outputs.

    Like batch_norm, it saves the inputs and a few numbers per channel for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, exchange: Exchange, eps: float, moments: _Moments, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        inputs, weights, biases = _thirds(tensors)
        variance = moments.variance
        statistics = torch.stack([moments.mean, variance.clamp_min(eps).rsqrt()])
        near = [statistics.to(x.device) for x in inputs]
        # max(var, eps) passes no gradient to a variance below eps.
        per_value = torch.stack([torch.ones_like(variance), (variance >= eps).to(variance)]) / moments.count
        ctx.save_for_backward(*inputs, *weights, *near, per_value)
        ctx.exchange = exchange
        return tuple(
            kernels.normalize(x, _as(weight, here), _as(bias, here), here[0], here[1])
            for x, weight, bias, here in zip(inputs, weights, biases, near, strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, per_value = ctx.saved_tensors
        inputs, weights, near = _thirds(tensors)
        grads = [
            dy.contiguous(memory_format=kernels.memory_format(x))
            for dy, x in zip(output_grads, inputs, strict=True)
        ]
        sums = [
            kernels.backward_sums(dy, x, here[0], here[1])
            for dy, x, here in zip(grads, inputs, near, strict=True)
        ]
        sum_here = reduce(torch.add, [local.to(per_value.device) for local in sums])
        everyone = ctx.exchange.gather(sum_here.view(1, -1))  # always, since other ranks may need it
        input_grads: list[Tensor | None] = [None] * len(inputs)
        if any(ctx.needs_input_grad[3 : 3 + len(inputs)]):
            averages = everyone.view(-1, *sum_here.shape).sum(0) * per_value
            input_grads = [
                kernels.input_gradient(dy, x, _as(weight, here), here[0], here[1], *averages.to(x.device))
                for dy, x, weight, here in zip(grads, inputs, weights, near, strict=True)
            ]
        if weights[0] is None:
            return None, None, None, *input_grads, *[None] * (2 * len(inputs))
        weight_grads = [local[1] * here[1] for local, here in zip(sums, near, strict=True)]
        bias_grads = [local[0] for local in sums]
        return None, None, None, *input_grads, *weight_grads, *bias_grads


def _thirds(items: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    third = len(items) // 3
    return items[:third], items[third : 2 * third], items[2 * third :]


def _as(parameter: Tensor | None, statistics: Tensor) -> Tensor | None:
    """The parameter in the statistics' type: the kernels reject half precision next to float32."""
    return None if parameter is None else parameter.to(statistics.dtype)


def _check_dimensions(layer: SynchronizedBatchNorm, input: Tensor, *allowed: int) -> None:
    # torch.fx traces with stand-ins of tensors, whose dimensions are unknown.
    if isinstance(input, Tensor) and input.dim() not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ValueError(
            f"{type(layer).__name__} takes an input of {wanted} dimensions, not {tuple(input.shape)}."
        )


def buffers_can_drift(module: nn.Module) -> bool:
    """Whether training may make buffers differ between processes.

    The buffers of synchronized BatchNorm stay equal. Buffers outside the state dict are constants.
    """
    equal = {
        id(buffer)
        for layer in module.modules()
        if isinstance(layer, SynchronizedBatchNorm)
        for buffer in layer.buffers(recurse=False)
    }
    state = module.state_dict(keep_vars=True).values()
    return any(not isinstance(value, nn.Parameter) and id(value) not in equal for value in state)
