"""Limits of the keys of a training recipe: losses, class weights, schedule, average of the weights."""

import ast
import math

from yacs.config import CfgNode

COMPUTED_WEIGHTS = ("median_frequency", "enet")

_CHOICES = {
    "lr_schedule": ("poly", "cosine", "step", "constant"),
    "label_resolution": ("stride", "full"),
}
# key: (lowest, whether that is allowed, highest, whether that is)
_RANGES = {
    "ema_decay": (0, True, 1, False),
    "label_smoothing": (0, True, 1, False),
    "ohem_threshold": (0, False, 1, True),
    "ohem_min_kept": (0, True, 1, True),
    "lr_step_factor": (0, False, 1, False),
    "warmup_factor": (0, True, 1, True),
    "enet_constant": (1, False, math.inf, False),
}


def parse_class_weights(text: str) -> str | tuple[float, ...]:
    """``TRAIN.class_weights``: "", a name in ``COMPUTED_WEIGHTS``, or the numbers of a list.

    Raises: ValueError, in words that follow on "it", for anything else.
    """
    text = text.strip()
    if text in ("", *COMPUTED_WEIGHTS):
        return text
    wanted = f"takes {', '.join(COMPUTED_WEIGHTS)}, or a list of numbers such as [0.5, 2.0, 1.0]"
    try:
        numbers = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # what the parser raises
        raise ValueError(wanted) from None
    if not isinstance(numbers, (list, tuple)) or any(type(number) not in (int, float) for number in numbers):
        raise ValueError(wanted)
    if any(not (math.isfinite(number) and number >= 0) for number in numbers) or not any(numbers):
        raise ValueError("takes numbers of 0 or more, at least one of them above 0")
    return tuple(float(number) for number in numbers)


def check_recipe(train: CfgNode) -> list[str]:
    """A sentence for each value that is out of its limits."""
    problems = []
    for key, choices in _CHOICES.items():
        if train[key] not in choices:
            *others, last = choices
            problems.append(f"TRAIN.{key} is '{train[key]}', but takes {', '.join(others)} or {last}.")
    for key, (lowest, with_lowest, highest, with_highest) in _RANGES.items():
        value = train[key]
        above = value >= lowest if with_lowest else value > lowest
        below = value <= highest if with_highest else value < highest
        if not (above and below):
            start = f"from {lowest}" if with_lowest else f"above {lowest}"
            end = f" to {'' if with_highest else 'below '}{highest}" if math.isfinite(highest) else ""
            problems.append(f"TRAIN.{key} is {value}, but takes a number {start}{end}.")
    if any(type(epoch) not in (int, float) or not 0 < epoch < math.inf for epoch in train.lr_milestones):
        problems.append(f"TRAIN.lr_milestones is {train.lr_milestones}, but takes epochs above 0.")
    try:
        parse_class_weights(train.class_weights)
    except ValueError as error:
        problems.append(f"TRAIN.class_weights is '{train.class_weights}', but {error}.")
    return problems


def contradictions_of_recipe(train: CfgNode, num_class: int) -> list[str]:
    """A sentence for each pair of values, all within their limits, that contradict each other."""
    problems = []
    total = train.num_epoch * train.epoch_iters
    if train.warmup_iters >= total:
        problems.append(
            f"TRAIN.warmup_iters is {train.warmup_iters}, but the run has {total} iterations. Set it lower."
        )
    weights = parse_class_weights(train.class_weights)
    if isinstance(weights, tuple) and len(weights) != num_class:
        problems.append(
            f"TRAIN.class_weights has {len(weights)} numbers, but DATASET.num_class is {num_class}. "
            "Give one for each class, in the order of the classes."
        )
    if train.lr_schedule == "step":
        if not train.lr_milestones:
            problems.append(
                "TRAIN.lr_schedule is step, but TRAIN.lr_milestones is empty. Set the epochs after which the "
                "rate drops."
            )
        late = [epoch for epoch in train.lr_milestones if epoch >= train.num_epoch]
        if late:
            problems.append(
                f"TRAIN.lr_milestones has {late[0]}, but the run ends at TRAIN.num_epoch {train.num_epoch}. "
                "Drop it, or set TRAIN.num_epoch higher."
            )
    elif train.lr_milestones:
        problems.append(
            f"TRAIN.lr_milestones is {train.lr_milestones}, but TRAIN.lr_schedule is {train.lr_schedule}. "
            "Set it to step, or leave the milestones out."
        )
    if train.lr_min and train.lr_schedule != "cosine":
        problems.append(
            f"TRAIN.lr_min is {train.lr_min}, but TRAIN.lr_schedule is {train.lr_schedule}. Set it to cosine."
        )
    for key in ("lr_encoder", "lr_decoder"):
        if 0 < train[key] < train.lr_min:  # a rate of 0 stays 0
            problems.append(
                f"TRAIN.lr_min is {train.lr_min}, but TRAIN.{key} is {train[key]}. Set TRAIN.lr_min below it."
            )
    return problems
