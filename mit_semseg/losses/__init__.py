"""The losses of training, one per file, and weighted sums of them (criterion.py)."""

from .criterion import (
    LOSSES,
    OF_QUERIES,
    OF_TEACHERS,
    Criterion,
    LossOptions,
    build_criterion,
    parse_losses,
    pixel_loss_sum,
)

__all__ = [
    "LOSSES",
    "OF_QUERIES",
    "OF_TEACHERS",
    "Criterion",
    "LossOptions",
    "build_criterion",
    "parse_losses",
    "pixel_loss_sum",
]
