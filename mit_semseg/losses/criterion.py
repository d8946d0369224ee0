"""The objective of training: a weighted sum of losses."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..runtime.near_names import suggestion
from .base import Loss
from .cross_entropy import CrossEntropy
from .dice import Dice
from .distillation import Distillation
from .focal import Focal
from .lovasz import LovaszSoftmax
from .mask_classification import MaskClassification
from .ohem import OHEM

_LARGEST_WEIGHT = 1e6  # in a sum of losses; gradients in float32 overflow far beyond


@dataclass(frozen=True)
class LossOptions:
    """The options of all losses; `Loss.options` names those that a loss takes."""

    class_weights: Tensor | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    ohem_threshold: float = 0.7
    ohem_min_kept: float = 1 / 16
    queries: int = 0


QUERY_LOSS = "mask_classification"
"""The loss of decoders with queries."""

TEACHER_LOSS = "distillation"
"""The loss that needs teachers."""

LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "ohem": OHEM,
    "focal": Focal,
    "dice": Dice,
    "lovasz": LovaszSoftmax,
    TEACHER_LOSS: Distillation,
    QUERY_LOSS: MaskClassification,
}


class Criterion(nn.Module):
    """Several losses of the same scores, and their weights.

    ``criterion(log_probs, label, taught)`` gives the sum of each loss over its units, (K,) for K losses. Only
    `Distillation` reads the probabilities ``taught``, which are optional. ``units(label)`` gives the units,
    (K,) float64, see `Loss`. A loss with several parts counts as several losses with the same weight.

    Training minimizes ``sum(weights * sums / units)``, with sums and units over all devices.
    """

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.weights = tuple(
            weight for loss, weight in zip(losses, weights, strict=True) for _ in range(loss.parts)
        )

    def forward(self, log_probs: Tensor, label: Tensor, taught: Tensor | None = None) -> Tensor:
        sums = [
            loss(log_probs, label, taught) if isinstance(loss, Distillation) else loss(log_probs, label)
            for loss in self.losses
        ]
        return torch.cat([each.view(-1) for each in sums])

    def units(self, label: Tensor) -> Tensor:
        return torch.cat([loss.units(label).view(-1) for loss in self.losses])  # type: ignore[operator]


def build_criterion(text: str, options: LossOptions) -> Criterion:
    """The criterion of a text such as ``cross_entropy + 0.5*dice``, see `parse_losses`."""
    terms = parse_losses(text)
    kinds = [LOSSES[name] for name in terms]
    losses = [kind(*(getattr(options, field) for field in kind.options)) for kind in kinds]
    return Criterion(losses, list(terms.values()))


def pixel_loss_sum() -> Criterion:
    """Cross-entropy of all labelled pixels, as the published models were trained."""
    return build_criterion("cross_entropy", LossOptions())


def parse_losses(text: str) -> dict[str, float]:
    """The weight of each loss in a sum of losses.

    >>> parse_losses("cross_entropy + 0.5*dice")
    {'cross_entropy': 1.0, 'dice': 0.5}

    Raises: ValueError for any other text. Its message continues a sentence that begins with the config key.
    """
    weights: dict[str, float] = {}
    for term in re.split(r"(?<!\d[eE])\+", text):  # not at the + of 1e+2
        match = re.fullmatch(r"\s*(?:(.*)\*)?\s*(\w+)\s*", term)
        if match is None:
            raise ValueError("takes a sum such as cross_entropy + 0.5*dice")
        name, weight = match[2], 1.0
        if name not in LOSSES:
            raise ValueError(
                f"has no loss {name}. {suggestion(name, LOSSES)}The losses are {', '.join(LOSSES)}"
            )
        if match[1] is not None:
            try:
                weight = float(match[1])
            except ValueError:
                raise ValueError(
                    f"has the weight '{match[1].strip()}' of {name}, which is not a number"
                ) from None
        if not 0 < weight <= _LARGEST_WEIGHT:
            raise ValueError(
                f"has the weight {weight:g} of {name}, but takes numbers above 0 and up to "
                f"{_LARGEST_WEIGHT:g}"
            )
        if name in weights:
            raise ValueError(f"has {name} twice")
        weights[name] = weight
    return weights
