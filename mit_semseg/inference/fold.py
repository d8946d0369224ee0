"""Folding of BatchNorm's fixed scale and shift into the convolution before it."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..runtime.log import get_logger

_TOLERANCE = 1e-3  # share of the largest output; rounding in a deep network changes about 1e-5


@torch.no_grad()
def folded(net: nn.Module, run: Callable[[nn.Module], Tensor]) -> nn.Module:
    """A copy of a network with BatchNorms folded into the convolutions before them.

    A run shows which BatchNorm reads the output of which convolution, so names of layers and the code between
    them do not matter. A pair is folded if nothing else reads that output or the weights of the two layers.
    If folding a pair still changes the result, for example because the BatchNorm has a custom forward,
    bisection finds the pair and restores it. The log names the BatchNorms after a convolution that were not
    folded.

    Args:
        net: the network in evaluation mode; it is not changed.
        run: passes an image through a network. Each call must use the same image.
    """
    new = copy.deepcopy(net)
    pairs, before = _observed(new, run)

    def same() -> bool:
        return bool((run(new) - before).abs().max() <= _TOLERANCE * before.abs().max())

    left = pairs
    if before.isfinite().all():  # otherwise a comparison would be meaningless
        left = [pair for pair in pairs if not pair.safe]
        left += _fold([pair for pair in pairs if pair.safe], new, same)
    if left:
        get_logger().info(
            "%d of %d BatchNorms are not folded into the convolution before them, which is slower and gives "
            "the same result: %s",
            *(len(left), len(pairs), ", ".join(sorted(pair.name for pair in left))),
        )
    return new


@dataclass(frozen=True)
class _Pair:
    """A convolution and the BatchNorm that reads its output."""

    conv: nn.Conv2d
    norm: _BatchNorm
    name: str  # of the BatchNorm in the network
    safe: bool  # nothing else reads the output or the weights of the two layers


def _fold(pairs: Sequence[_Pair], net: nn.Module, same: Callable[[], bool]) -> list[_Pair]:
    """Fold pairs in ``net``. Returns the pairs that were restored because they changed the result."""
    if not pairs:
        return []
    weights = [(pair.conv.weight, pair.conv.bias) for pair in pairs]
    for pair in pairs:
        pair.conv.weight, pair.conv.bias = _joined(pair.conv, pair.norm)
    # timm's BatchNorms include an activation, which must stay.
    after = {pair.norm: getattr(pair.norm, "act", nn.Identity()) for pair in pairs}
    places = [
        (parent, name, child)
        for parent in net.modules()
        for name, child in parent._modules.items()
        if isinstance(child, _BatchNorm) and child in after
    ]
    for parent, name, child in places:
        parent._modules[name] = after[child]
    if same():
        return []
    for parent, name, child in places:
        parent._modules[name] = child
    for pair, (weight, bias) in zip(pairs, weights, strict=True):
        pair.conv.weight, pair.conv.bias = weight, bias
    if len(pairs) == 1:
        return list(pairs)
    half = len(pairs) // 2
    return _fold(pairs[:half], net, same) + _fold(pairs[half:], net, same)


class _Reads(TorchDispatchMode):
    """Counts how many operations read each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self._times: Counter[int] = Counter()
        self._read: list[Tensor] = []  # kept alive, because a new tensor could reuse the id of a freed one

    def times(self, tensor: Tensor) -> int:
        return self._times[id(tensor)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._times.update(map(id, tensors))
        self._read += tensors
        return func(*args, **kwargs)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here. PyTorch's default imports its compiler: 150 MB, and seconds."""
        return False


def _observed(net: nn.Module, run: Callable[[nn.Module], Tensor]) -> tuple[list[_Pair], Tensor]:
    """The pairs of a network, and the result of the run that found them."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    seen: dict[_BatchNorm, tuple[nn.Conv2d, Tensor]] = {}

    def after_convolution(layer: Any, inputs: Any, output: Tensor) -> None:
        outputs[id(output)] = layer, output  # keeps the output alive, because its id is the key

    def before_norm(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs and layer.running_mean is not None:
            seen[layer] = outputs[id(inputs[0])]

    hooks, names = [], {}
    for name, layer in net.named_modules():
        if isinstance(layer, _BatchNorm):
            names[layer] = name
            hooks.append(layer.register_forward_pre_hook(before_norm))
        # A subclass may compute something else. A weight that is not a parameter is computed at each call.
        elif type(layer) is nn.Conv2d and "weight" in layer._parameters:
            hooks.append(layer.register_forward_hook(after_convolution))
    try:
        with _Reads() as reads:
            result = run(net)
    finally:
        for hook in hooks:
            hook.remove()

    def is_safe(conv: nn.Conv2d, output: Tensor, norm: _BatchNorm) -> bool:
        tensors = [output, *conv.parameters(), *norm.parameters(), norm.running_mean, norm.running_var]
        return output is not result and all(
            reads.times(tensor) == 1 for tensor in tensors if tensor is not None
        )

    pairs = [
        _Pair(conv, norm, names[norm], is_safe(conv, output, norm)) for norm, (conv, output) in seen.items()
    ]
    return pairs, result


def _joined(conv: nn.Conv2d, norm: _BatchNorm) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of one convolution that replaces both layers; computed in float64."""
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
