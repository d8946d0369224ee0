"""Optimizers by name, the learning rate schedule, and the moving average of the weights."""

from .ema import WeightAverage
from .lr_schedule import LRSchedule, set_rates
from .optimizers import OPTIMIZERS, build_optimizer, decays_weights, find_optimizer

__all__ = [
    "OPTIMIZERS",
    "LRSchedule",
    "WeightAverage",
    "build_optimizer",
    "decays_weights",
    "find_optimizer",
    "set_rates",
]
