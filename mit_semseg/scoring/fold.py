"""BatchNorm's fixed scale and shift, moved into the convolution before it."""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_TOLERANCE = 1e-3  # of the largest output; the rounding of a deep network costs some 1e-5


@torch.no_grad()
def folded(net: nn.Module, run: Callable[[nn.Module], Tensor]) -> nn.Module:
    """A copy of a network, in which the convolutions do what the BatchNorms behind them did.

    Which BatchNorm reads which convolution's output is observed in a run, so it does not matter how the
    layers are named or joined. What that does not show, such as a second reader of the convolution's output,
    changes the result: if it differs from the former one, the copy is a plain one.

    Args:
        net: in evaluation mode; it stays as it is.
        run: passes an image through a network, the same one at each call.
    """
    new = copy.deepcopy(net)
    pairs, before = _observed(new, run)
    for conv, norm in pairs:
        conv.weight, conv.bias = _joined(conv, norm)
    norms = {id(norm) for _, norm in pairs}
    for parent in list(new.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in norms:
                setattr(parent, name, getattr(child, "act", nn.Identity()))  # of a norm with an activation
    if bool((run(new) - before).abs().max() <= _TOLERANCE * before.abs().max()):
        return new
    return copy.deepcopy(net)


def _observed(
    net: nn.Module, run: Callable[[nn.Module], Tensor]
) -> tuple[list[tuple[nn.Conv2d, _BatchNorm]], Tensor]:
    """Pairs of a convolution and the BatchNorm that reads it, each called once; and the run's result."""
    convolutions: list[tuple[nn.Conv2d, Tensor]] = []  # holds the outputs, so that no other gets their id
    writers: dict[int, nn.Conv2d] = {}
    calls: Counter[nn.Module] = Counter()
    pairs: list[tuple[nn.Conv2d, _BatchNorm]] = []

    def after_convolution(layer: Any, inputs: Any, output: Tensor) -> None:
        convolutions.append((layer, output))
        writers[id(output)] = layer
        calls[layer] += 1

    def before_norm(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        calls[layer] += 1
        if id(inputs[0]) in writers and layer.running_mean is not None:
            pairs.append((writers[id(inputs[0])], layer))

    hooks = []
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            hooks.append(layer.register_forward_pre_hook(before_norm))
        elif type(layer) is nn.Conv2d:
            hooks.append(layer.register_forward_hook(after_convolution))
    try:
        result = run(net)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1], result


def _joined(conv: nn.Conv2d, norm: _BatchNorm) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of one convolution that does what both layers do; computed in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    dtype = conv.weight.dtype
    return (
        nn.Parameter(weight.to(dtype), requires_grad=False),
        nn.Parameter(shift.to(dtype), requires_grad=False),
    )
