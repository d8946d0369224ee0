"""The losses of training, one per file, and weighted sums of them (criterion.py)."""

from .criterion import (
    LOSSES,
    QUERY_LOSS,
    TEACHER_LOSS,
    Criterion,
    LossOptions,
    build_criterion,
    parse_losses,
    pixel_loss_sum,
)

__all__ = [
    "LOSSES",
    "QUERY_LOSS",
    "TEACHER_LOSS",
    "Criterion",
    "LossOptions",
    "build_criterion",
    "parse_losses",
    "pixel_loss_sum",
]
