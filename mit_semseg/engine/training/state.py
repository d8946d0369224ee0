"""The state of a run in one file, ``DIR/state.pth``: what it takes to go on as if nothing had happened."""

import hashlib
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor, nn
from yacs.config import CfgNode

from ...atomic import replacing
from ...checkpoint import read, save_atomically
from ...errors import UserError
from .course import Course

NAME = "state.pth"
_FORMAT = 1
_KEYS = {"format", "config", "list", "course", "encoder", "decoder", "optimizer", "extras"}
_MOMENTS = ("momentum_buffer", "exp_avg", "exp_avg_sq")  # as large as the parameter, in every optimizer

_OF_MODEL = ("DATASET.num_class", "MODEL.arch_encoder", "MODEL.arch_decoder")
MUST_AGREE = (
    *_OF_MODEL,
    "TRAIN.optim",
    "TRAIN.fix_bn",
    "TRAIN.batch_size_per_gpu",
    "TRAIN.epoch_iters",
    "TRAIN.seed",
)
"""Keys that give a state its meaning: its tensors, and its place in the schedule. The others may change."""

_OF_THE_PLACE = ("DIR", "TRAIN.resume", "TRAIN.start_epoch")  # differ between the runs that share a course


class Stateful(Protocol):
    """More that a run keeps, such as a loss scaler or an average of the weights.

    ``load_state_dict`` raises a ValueError or a KeyError for what is none of its states.
    """

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def list_digest(file: str | Path) -> str:
    """A fingerprint of a list's bytes: the schedule is made from them. Raises: UserError."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None


def save_state(
    cfg: CfgNode,
    digest: str,
    course: Course,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    extras: dict[str, Stateful],
) -> None:
    """Write the state, in place of the one before; and ``config.yaml``, where it has changed.

    Args:
        digest: `list_digest` of the training list.
        module: with the weights that are trained, not their average.
        extras: further things that have a state, by name.

    Raises: UserError if the disk refuses; the state before is still there, then.
    """
    config = cfg.dump()
    write_config(Path(cfg.DIR), config)
    state = {
        "format": _FORMAT,
        "config": config,
        "list": digest,
        "course": course.state_dict(),
        "encoder": module.get_submodule("encoder").state_dict(),
        "decoder": module.get_submodule("decoder").state_dict(),
        "optimizer": {"groups": _group_sizes(optimizer), "state": optimizer.state_dict()["state"]},
        "extras": {name: extra.state_dict() for name, extra in extras.items()},
    }
    save_atomically(state, Path(cfg.DIR, NAME))


def write_config(folder: Path, text: str) -> None:
    """Write ``config.yaml``, unless it says the same already."""
    file = folder / "config.yaml"
    if not file.is_file() or file.read_bytes() != text.encode():
        with replacing(file) as config:
            config.write(text.encode())


def read_state(file: Path) -> dict[str, Any]:
    """The content of a state file, on the CPU; its parts are of the right kind, whatever they hold.

    Raises: UserError if the file is missing, damaged or something else.
    """
    state = read(file)
    if not isinstance(state, dict) or not state.keys() >= _KEYS or not isinstance(state["config"], str):
        raise UserError(
            f"{file} holds no state of a training. Name a state.pth that train.py has written, or its folder."
        )
    if state["format"] != _FORMAT:
        raise UserError(
            f"{file} has format {state['format']}, but this version reads {_FORMAT}. "
            "Go on with the version that wrote it."
        )
    try:
        Course.from_state(state["course"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is damaged: its course has no proper {error}. Delete it.") from error
    return state


def check_state(
    file: Path, state: dict[str, Any], cfg: CfgNode, digest: str, *, model: bool = True
) -> list[str]:
    """Refuse a state that means something else under this config; returns a note on what may change and did.

    Args:
        model: whether to look at the model, too; its checkpoints say more about it, where there are some.

    Raises: UserError that names every key that has to agree and does not.
    """
    stored = _flat(yaml.safe_load(state["config"]))
    current = _flat(yaml.safe_load(cfg.dump()))
    changed = {key: (stored[key], value) for key, value in current.items() if stored.get(key, value) != value}
    broken = [
        f"{key} was {changed[key][0]}, is {changed[key][1]}"
        for key in MUST_AGREE
        if key in changed and (model or key not in _OF_MODEL)
    ]
    if state["list"] != digest:
        broken.append(f"{cfg.DATASET.list_train} has another content than the list it was trained with")
    if broken:
        raise UserError(
            f"{file} can't go on with this config: {'; '.join(broken)}. Set back what has changed; or train "
            "anew in another DIR, from the same weights by MODEL.weights_encoder and MODEL.weights_decoder."
        )
    others = [
        f"{key} was {before}, is {now}"
        for key, (before, now) in changed.items()
        if key not in (*MUST_AGREE, *_OF_THE_PLACE)
    ]
    return [f"Changed since the state was saved: {'; '.join(others)}"] if others else []


def load_state(
    file: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    extras: dict[str, Stateful],
) -> tuple[Course, list[str]]:
    """Bring all of these to where a state file left them.

    Rates and the like stay as the optimizer has them, so that a changed config counts.

    Returns: the course, and notes for the user.
    Raises: UserError if a part does not fit; nothing has been loaded then.
    """
    state = read_state(file)
    for part in ("encoder", "decoder"):
        _check_weights(file, part, state[part], module.get_submodule(part).state_dict())
    _check_optimizer(file, state["optimizer"], optimizer)
    notes = []
    for name, extra in extras.items():
        if name not in state["extras"]:
            notes.append(f"{file} holds no {name}: it starts afresh")
            continue
        try:
            extra.load_state_dict(state["extras"][name])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{file} does not fit: its {name} is of another model ({error}).") from error
    for part in ("encoder", "decoder"):
        module.get_submodule(part).load_state_dict(state[part])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})
    return Course.from_state(state["course"]), notes


def _check_weights(file: Path, part: str, stored: Any, wanted: dict[str, Tensor]) -> None:
    if not isinstance(stored, dict):
        raise UserError(f"{file} is damaged: it holds no {part}. Delete it.")
    for name in [*wanted, *stored]:
        shapes = [tuple(side[name].shape) if name in side else "missing" for side in (stored, wanted)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{file} is of another model: {part}.{name} is {shapes[0]} there, {shapes[1]} here. "
                "Set the model's keys back, or train anew in another DIR."
            )


def _check_optimizer(file: Path, stored: Any, optimizer: torch.optim.Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fits = (
        isinstance(stored, dict)
        and stored.get("groups") == _group_sizes(optimizer)
        and isinstance(stored.get("state"), dict)
        and all(
            index in range(len(parameters)) and _is_of(parameters[index], values)
            for index, values in stored["state"].items()
        )
    )
    if not fits:
        raise UserError(
            f"{file} holds the optimizer of another model, or of other frozen layers. Set the keys back, or "
            "train anew in another DIR."
        )


def _is_of(parameter: Tensor, values: Any) -> bool:
    """Whether an optimizer may have kept ``values`` for a parameter."""
    return isinstance(values, dict) and all(
        values[name] is None or values[name].shape == parameter.shape for name in _MOMENTS if name in values
    )


def _group_sizes(optimizer: torch.optim.Optimizer) -> list[int]:
    return [len(group["params"]) for group in optimizer.param_groups]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"TRAIN": {"seed": 1}}`` as ``{"TRAIN.seed": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
