"""Optimizers by their names in torch.optim, and the weights that they do not decay."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ..runtime.near_names import suggestion

Groups = list[dict[str, Any]]
Build = Callable[[Groups, float, float], torch.optim.Optimizer]

# Each takes (parameter groups, lr, beta1). Fused optimizers make one pass over the weights, on CPU and GPU.
OPTIMIZERS: dict[str, Build] = {
    "SGD": lambda groups, lr, beta1: torch.optim.SGD(groups, lr=lr, momentum=beta1, **_passes(groups)),
    "Adam": lambda groups, lr, beta1: torch.optim.Adam(groups, lr=lr, betas=(beta1, 0.999), fused=True),
    "AdamW": lambda groups, lr, beta1: torch.optim.AdamW(groups, lr=lr, betas=(beta1, 0.999), fused=True),
}

_UNFIT = {
    "LBFGS": "computes the loss several times a step",
    "SparseAdam": "takes sparse gradients, but gradients are dense here",
    "Muon": "takes only matrices, but the weights of convolutions have four dimensions",
}
# Parts of the names of weights that are not decayed: position embeddings, tokens and scales.
_NOT_DECAYED = ("pos_embed", "position_embedding", "relative_position", "rel_pos", "_token", "logit_scale")
_SPARED_LAYERS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.EmbeddingBag)


def _passes(groups: Groups) -> dict[str, bool]:
    """How SGD updates all weights at once. It has no fused way for DTensors, in which fsdp keeps weights."""
    sharded = any(hasattr(weight, "to_local") for group in groups for weight in group["params"])
    return {"foreach": True} if sharded else {"fused": True}


def find_optimizer(name: str) -> Build:
    """The function that builds an optimizer: an entry of ``OPTIMIZERS``, or one for a class of torch.optim.

    For such a class, ``beta1`` is the momentum or the first of the betas, if it has them. All other arguments
    keep torch's defaults.

    Raises: ValueError if there is no such optimizer, or it cannot be used. Its message continues a sentence
        that begins with the name.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    if name in _UNFIT:
        raise ValueError(f"{_UNFIT[name]}. Choose one of {', '.join(_names())}")
    if name not in _names():
        known = _names()
        raise ValueError(
            f"is not an optimizer. {suggestion(name, known)}The optimizers are {', '.join(known)}"
        )
    kind = getattr(torch.optim, name)

    def build(groups: Groups, lr: float, beta1: float) -> torch.optim.Optimizer:
        known = inspect.signature(kind).parameters
        settings: dict[str, Any] = {"momentum": beta1} if "momentum" in known else {}
        if "betas" in known:
            settings["betas"] = (beta1, *known["betas"].default[1:])
        optimizer: torch.optim.Optimizer = kind(groups, lr=lr, **settings)
        return optimizer

    return build


def decays_weights(name: str) -> bool:
    """Whether an optimizer of torch.optim has weight decay. All have it, except Rprop."""
    return name in OPTIMIZERS or "weight_decay" in inspect.signature(getattr(torch.optim, name)).parameters


def _names() -> list[str]:
    """The names in ``OPTIMIZERS``, and those of the other optimizers in torch.optim."""
    own = vars(torch.optim)
    others = (name for name, kind in own.items() if inspect.isclass(kind) and name not in _UNFIT)
    kinds = (name for name in others if issubclass(own[name], torch.optim.Optimizer) and name != "Optimizer")
    return list(dict.fromkeys([*OPTIMIZERS, *sorted(kinds)]))


def build_optimizer(
    name: str,
    encoder: nn.Module,
    decoder: nn.Module,
    *,
    lr: tuple[float, float],
    beta1: float,
    weight_decay: float,
    encoder_rates: Mapping[nn.Parameter, float] = MappingProxyType({}),
    encoder_delay: int = 0,
    encoder_warmup: int = 0,
) -> torch.optim.Optimizer:
    """One optimizer for an encoder and a decoder, each with its own learning rate.

    Args:
        name: see `find_optimizer`.
        lr: rates of the encoder and of the decoder at iteration 0; kept in each group as ``initial_lr``.
        beta1: momentum of SGD, beta1 of Adam.
        weight_decay: weight decay of convolutions and linear layers. Biases, norms, embeddings, position
            tables and the weights that a network lists in ``no_weight_decay()`` are not decayed.
        encoder_rates: a factor on the learning rate of weights of the encoder, kept in each group as
            ``factor``; 1 for those that it lacks.
        encoder_delay: iterations before the encoder's schedule starts, kept in its groups as ``delay``.
        encoder_warmup: iterations of the encoder's warm-up, kept in its groups as ``warmup``; 0 for those
            of the schedule.

    Raises: ValueError for another name.
    """
    try:
        build = find_optimizer(name)
    except ValueError as error:
        raise ValueError(f"name is {name!r}, which {error}") from None
    groups = [
        group
        for net, rate, start in zip(
            (encoder, decoder), lr, ((encoder_delay, encoder_warmup), (0, 0)), strict=True
        )
        for group in _groups(net, rate, weight_decay, encoder_rates, start)
    ]
    return build(groups, lr[0], beta1)


def _groups(
    net: nn.Module,
    lr: float,
    weight_decay: float,
    factors: Mapping[nn.Parameter, float],
    start: tuple[int, int],
) -> Iterator[dict[str, Any]]:
    spared = _spared(net)
    parameters = [p for p in net.parameters() if p.requires_grad]
    # The groups with the full rate first, because the log shows the rate of the first group.
    for factor in sorted({factors.get(p, 1.0) for p in parameters}, reverse=True):
        for decay in (True, False):
            chosen = [
                p for p in parameters if (id(p) not in spared) == decay and factors.get(p, 1.0) == factor
            ]
            if chosen:
                yield {
                    "params": chosen,
                    "lr": lr * factor,
                    "initial_lr": lr * factor,
                    "weight_decay": weight_decay if decay else 0.0,
                    "delay": start[0],
                    "warmup": start[1],
                    "factor": factor,
                }


def _spared(net: nn.Module) -> set[int]:
    """The ids of the parameters that are not decayed."""
    spared = {
        id(parameter)
        for name, parameter in net.named_parameters()
        if parameter.ndim <= 1 or any(word in name.rsplit(".", 1)[-1] for word in _NOT_DECAYED)
    }
    for layer in net.modules():
        if isinstance(layer, _SPARED_LAYERS):
            spared.update(map(id, layer.parameters(recurse=False)))
        names = getattr(layer, "no_weight_decay", None)  # many image networks have it
        if callable(names):
            named = names()
            spared.update(id(parameter) for name, parameter in layer.named_parameters() if name in named)
    return spared
