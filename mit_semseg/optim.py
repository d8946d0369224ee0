"""Optimizers and the learning-rate schedule."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

# Each takes (parameter groups, lr, beta1). Fused: one pass over the weights, on CPU and GPU.
OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float, float], torch.optim.Optimizer]] = {
    "SGD": lambda groups, lr, beta1: torch.optim.SGD(groups, lr=lr, momentum=beta1, fused=True),
    "Adam": lambda groups, lr, beta1: torch.optim.Adam(groups, lr=lr, betas=(beta1, 0.999), fused=True),
    "AdamW": lambda groups, lr, beta1: torch.optim.AdamW(groups, lr=lr, betas=(beta1, 0.999), fused=True),
}


def build_optimizer(
    name: str,
    encoder: nn.Module,
    decoder: nn.Module,
    *,
    lr: tuple[float, float],
    beta1: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """One optimizer over an encoder and a decoder that have learning rates of their own.

    Args:
        name: a key of ``OPTIMIZERS``.
        lr: at iteration 0, of the encoder and of the decoder; kept in each group as ``initial_lr``.
        beta1: momentum of SGD, beta1 of Adam.
        weight_decay: of the weights of convolutions and linear layers; biases and norms are not decayed.

    Raises: ValueError for another name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"name is {name!r}, but takes one of {', '.join(OPTIMIZERS)}")
    groups = [
        group
        for net, rate in zip((encoder, decoder), lr, strict=True)
        for group in _groups(net, rate, weight_decay)
    ]
    return OPTIMIZERS[name](groups, lr[0], beta1)


def _groups(net: nn.Module, lr: float, weight_decay: float) -> Iterator[dict[str, Any]]:
    decayed = {
        id(layer.weight) for layer in net.modules() if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))
    }
    parameters = [p for p in net.parameters() if p.requires_grad]
    for decay in (True, False):
        chosen = [p for p in parameters if (id(p) in decayed) == decay]
        if chosen:
            yield {
                "params": chosen,
                "lr": lr,
                "initial_lr": lr,
                "weight_decay": weight_decay if decay else 0.0,
            }


def set_poly_lr(optimizer: torch.optim.Optimizer, iteration: int, total: int, power: float) -> None:
    """Set each group's rate to ``initial_lr * (1 - iteration / total) ** power``.

    Source: Chen et al. 2018, DeepLab, section 4.1.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * (1 - iteration / total) ** power
