"""The learning rate schedule: a pure function of the iteration, so a resumed run needs no state."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch


@dataclass(frozen=True)
class LRSchedule:
    """The learning rate at each iteration of a run.

    Args:
        kind: a key of ``SCHEDULES``.
        total: iterations of the run.
        power: exponent of "poly".
        lowest: rate at the end of "cosine"; an initial rate below it does not change.
        milestones: iterations at each of which "step" multiplies the rate by ``step_factor``.
        warmup: number of first iterations, in which a factor on the rate rises linearly to 1.
        warmup_factor: that factor at iteration 0.
        after_warmup: whether "poly" and "cosine" begin when the warm-up ends, not when it begins.

    Raises: ValueError for another kind.
    """

    kind: str
    total: int
    power: float = 0.9
    lowest: float = 0.0
    milestones: Sequence[int] = field(default=())
    step_factor: float = 0.1
    warmup: int = 0
    warmup_factor: float = 0.001
    after_warmup: bool = False

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ValueError(f"kind is {self.kind!r}, but takes one of {', '.join(SCHEDULES)}")

    def rate(self, initial: float, iteration: int, delay: int = 0, warmup: int = 0) -> float:
        """The rate at an iteration, counted from 0.

        Args:
            initial: rate at the start of the schedule.
            delay: iterations before the start, in which the rate is 0.
            warmup: iterations of another warm-up; 0 for that of the schedule.
        """
        own = iteration - delay
        if own < 0:
            return 0.0
        warmup = warmup or self.warmup
        curve, passed = self, own
        if self.after_warmup and self.kind in _MOVABLE:
            curve = replace(self, total=max(1, self.total - delay - warmup))
            passed = max(0, own - warmup)
        rate = SCHEDULES[self.kind](curve, initial, passed)
        if own >= warmup:
            return rate
        return rate * (self.warmup_factor + (1 - self.warmup_factor) * own / warmup)


def _poly(schedule: LRSchedule, initial: float, iteration: int) -> float:
    """Source: Chen et al. 2018, DeepLab, section 4.1."""
    return initial * (1 - iteration / schedule.total) ** schedule.power


def _cosine(schedule: LRSchedule, initial: float, iteration: int) -> float:
    """Source: Loshchilov and Hutter 2017, SGDR, section 3, without restarts."""
    lowest = min(schedule.lowest, initial)
    return lowest + (initial - lowest) * (1 + math.cos(math.pi * iteration / schedule.total)) / 2


def _step(schedule: LRSchedule, initial: float, iteration: int) -> float:
    passed = sum(iteration >= milestone for milestone in schedule.milestones)
    return initial * schedule.step_factor**passed


def _constant(schedule: LRSchedule, initial: float, iteration: int) -> float:
    return initial


SCHEDULES: dict[str, Callable[[LRSchedule, float, int], float]] = {
    "poly": _poly,
    "cosine": _cosine,
    "step": _step,
    "constant": _constant,
}
_MOVABLE = ("poly", "cosine")  # the milestones of "step" are iterations of the run


def set_rates(
    optimizer: torch.optim.Optimizer, schedule: LRSchedule, iteration: int, scale: float = 1.0
) -> None:
    """Set the learning rate of each group for an iteration, from the group's ``initial_lr``.

    A group with a ``delay`` starts that many iterations later, and has the rate 0 before. One with a
    ``warmup`` other than 0 has a warm-up of that length.

    Args:
        scale: factor on all rates.
    """
    for group in optimizer.param_groups:
        start = group.get("delay", 0), group.get("warmup", 0)
        group["lr"] = scale * schedule.rate(group["initial_lr"], iteration, *start)
