"""Does a state fit a run? The checks against its config and its model, and loading."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import current_names, flat_config
from ..errors import UserError
from ..models.weights.fit import require_usable
from ..runtime.distributed import local_part
from .counters import TrainState
from .options import RunOptions
from .state import UNUSABLE, Stateful, group_sizes
from .tensor_trees import named_tensors

_MOMENTS = ("momentum_buffer", "exp_avg", "exp_avg_sq")  # have the parameter's shape in every optimizer

_MODEL_KEYS = ("DATASET.num_class", "DATASET.channels", "MODEL.arch_encoder", "MODEL.arch_decoder")
MUST_AGREE = (
    *_MODEL_KEYS,
    "TRAIN.optim",
    "TRAIN.fix_bn",
    "TRAIN.batch_size_per_gpu",
    "TRAIN.epoch_iters",
    "TRAIN.seed",
)
"""Keys that must not change: they determine the tensors of a state and its position in the schedule."""

_RUN_KEYS = ("DIR", "TRAIN.resume", "TRAIN.start_epoch")  # where a run is and starts, not what it computes


def check_state(
    file: Path, content: dict[str, Any], options: RunOptions, digest: str, *, model: bool = True
) -> list[str]:
    """Refuse a state that does not match this config. Returns notes on other keys that changed.

    Args:
        model: whether to compare the keys of the model, too. Not needed where its checkpoints are loaded,
            which are checked themselves.

    Raises: UserError that names every key of `MUST_AGREE` that differs.
    """
    stored = current_names(flat_config(content["config"]))  # an earlier release may have written it
    current = flat_config(options.config)
    changed = {key: (stored[key], value) for key, value in current.items() if stored.get(key, value) != value}
    broken = [
        f"{key} was {changed[key][0]}, is {changed[key][1]}"
        for key in MUST_AGREE
        if key in changed and (model or key not in _MODEL_KEYS)
    ]
    if content["list"] != digest:
        broken.append(f"{options.train_list} differs from the list it was trained with")
    if broken:
        raise UserError(
            f"{file} cannot be resumed with this config: {'; '.join(broken)}. Set back what has changed; or "
            "start a new run in another DIR, from the same weights by MODEL.weights_encoder and "
            "MODEL.weights_decoder."
        )
    others = [
        f"{key} was {before}, is {now}"
        for key, (before, now) in changed.items()
        if key not in (*MUST_AGREE, *_RUN_KEYS)
    ]
    return [f"Changed since the state was saved: {'; '.join(others)}"] if others else []


def load_state(
    file: Path,
    content: dict[str, Any],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    extras: dict[str, Stateful],
) -> tuple[TrainState, list[str]]:
    """Load a state into model, optimizer and ``extras``.

    Learning rates and other options of the optimizer are kept, so that a changed config takes effect.

    Args:
        content: of ``file``, see `read_state`.
        extras: further objects with a state, by name.

    Returns: the counters, and notes for the user.
    Raises: UserError if a part does not fit, or a weight is not finite. The weights and the optimizer are
        unchanged then.
    """
    for part in ("encoder", "decoder"):
        _check_weights(file, part, content[part], module.get_submodule(part).state_dict())
        require_usable(((f"{part}.{name}", local_part(value)) for name, value in content[part].items()), file)
    _check_optimizer(file, content["optimizer"], optimizer)
    others = {name: content[name] for name in ("optimizer", "extras")}
    require_usable(((name, local_part(value)) for name, value in named_tensors(others)), file)
    notes = []
    for name, extra in extras.items():
        if name not in content["extras"]:
            notes.append(f"{file} has no {name}: it starts from scratch")
            continue
        try:
            extra.load_state_dict(content["extras"][name])
        except UNUSABLE as error:
            raise UserError(f"{file} does not fit: its {name} is from another model ({error}).") from error
    for part in ("encoder", "decoder"):
        module.get_submodule(part).load_state_dict(content[part])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": content["optimizer"]["state"], "param_groups": groups})
    return TrainState.from_state(content["course"]), notes


def _check_weights(file: Path, part: str, stored: Any, wanted: dict[str, Tensor]) -> None:
    if not isinstance(stored, dict):
        raise UserError(f"{file} is damaged: it has no {part}. Delete it.")
    for name in [*wanted, *stored]:
        shapes = [_shape(side[name]) if name in side else "missing" for side in (stored, wanted)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{file} is from another model: {part}.{name} is {shapes[0]} there, {shapes[1]} here. "
                "Restore the keys of the model, or start a new run in another DIR."
            )


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _check_optimizer(file: Path, stored: Any, optimizer: torch.optim.Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fits = (
        isinstance(stored, dict)
        and stored.get("groups") == group_sizes(optimizer)
        and isinstance(stored.get("state"), dict)
        # A parameter without a gradient has none, such as the norm of a map that the decoder does not read.
        and stored["state"].keys() <= set(range(len(parameters)))
        and all(_is_of(parameters[index], values) for index, values in stored["state"].items())
        and len({_kept(values) for values in stored["state"].values()}) <= 1
    )
    if not fits:
        raise UserError(
            f"{file} holds the optimizer of another model, or of one with other frozen layers. Restore those "
            "keys, or start a new run in another DIR."
        )


def _is_of(parameter: Tensor, values: Any) -> bool:
    """Whether an optimizer may have kept ``values`` for a parameter."""
    if not isinstance(values, dict):
        return False
    step = values.get("step", 0)
    return (isinstance(step, int | float) or _shape(step) == ()) and all(
        values[name] is None or _shape(values[name]) == tuple(parameter.shape)
        for name in _MOMENTS
        if name in values
    )


def _kept(values: dict[str, Any]) -> frozenset[str]:
    """The moments that an optimizer has kept for a parameter."""
    return frozenset(name for name in _MOMENTS if values.get(name) is not None)
