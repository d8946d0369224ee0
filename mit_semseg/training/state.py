"""The file ``DIR/state.pth``, from which a run resumes exactly.

The functions save a state, read it, compare it with the config, and load it into model and optimizer.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor, nn

from ..config import current_names
from ..errors import DivergenceError, UserError
from ..models.weights.checkpoint import read, save_atomically
from ..models.weights.fit import require_usable
from ..runtime.distributed import local_part
from ..runtime.files import replacing
from .counters import TrainState
from .options import RunOptions

NAME = "state.pth"
SHARDS = ("state_shards_0", "state_shards_1")
"""Folders beside a state file. One of them has its tensors if a sharded run wrote it, see `shard_files`."""

SHARDED_FORMAT = 2
_FORMAT = 1
_PARTS = ("encoder", "decoder", "optimizer", "extras")  # of a state: all that have tensors
# The counters are called "course", as in the files of release 2.0.
_KEYS = {"format", "config", "list", "course", "encoder", "decoder", "optimizer", "extras"}
_MOMENTS = ("momentum_buffer", "exp_avg", "exp_avg_sq")  # have the parameter's shape in every optimizer

# What a value of another kind than expected makes Python, YAML and torch raise.
_UNUSABLE = (
    *(KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError),
    yaml.YAMLError,
)

_OF_MODEL = ("DATASET.num_class", "DATASET.channels", "MODEL.arch_encoder", "MODEL.arch_decoder")
MUST_AGREE = (
    *_OF_MODEL,
    "TRAIN.optim",
    "TRAIN.fix_bn",
    "TRAIN.batch_size_per_gpu",
    "TRAIN.epoch_iters",
    "TRAIN.seed",
)
"""Keys that must not change: they determine the tensors of a state and its position in the schedule."""

_OF_THE_RUN = ("DIR", "TRAIN.resume", "TRAIN.start_epoch")  # where a run is and starts, not what it computes


class Stateful(Protocol):
    """Anything else that a run saves, such as a loss scaler or an average of the weights.

    ``load_state_dict`` raises ValueError or KeyError for an argument that is not one of its states.
    """

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def state_content(
    options: RunOptions,
    digest: str,
    state: TrainState,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    extras: dict[str, Stateful],
) -> dict[str, Any]:
    """The content of a state file. Its tensors are those of the run, not copies.

    Args:
        digest: `list_digest` of the training list.
        module: has the weights that are trained, not their average.
        extras: further objects with a state, by name.
    """
    return {
        "format": _FORMAT,
        "config": options.config,
        "list": digest,
        "course": state.state_dict(),
        "encoder": module.get_submodule("encoder").state_dict(),
        "decoder": module.get_submodule("decoder").state_dict(),
        "optimizer": {"groups": _group_sizes(optimizer), "state": optimizer.state_dict()["state"]},
        "extras": {name: extra.state_dict() for name, extra in extras.items()},
    }


def write_state(options: RunOptions, content: dict[str, Any]) -> None:
    """Replace the state file, and ``config.yaml`` if it has changed.

    Raises: UserError if the disk refuses, DivergenceError for a number that is not finite. The old file
        then remains.
    """
    file = options.folder / NAME
    iteration = content["course"]["iteration"]
    check_finite(parts_of(content), f"after iteration {iteration}", f"{file} was not replaced")
    write_config(options.folder, options.config)
    save_atomically(content, file)
    drop_shards(options.folder, *SHARDS)


def parts_of(content: dict[str, Any]) -> dict[str, Any]:
    """The parts of a state's content that have tensors."""
    return {name: content[name] for name in _PARTS}


def drop_shards(folder: Path, *names: str) -> None:
    """Delete folders of ``SHARDS``, if they exist."""
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)


def list_digest(file: str | Path) -> str:
    """SHA-256 of a list's bytes, which determine the schedule. Raises: UserError if it cannot be read."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None


def check_finite(values: Any, when: str, consequence: str) -> None:
    """Refuse to save tensors that hold NaN or infinity.

    Args:
        values: tensors in nested dicts and lists. Of a DTensor, the part of this process is checked.
        when: for the message, such as "after iteration 5".
        consequence: for the message, such as "Its checkpoint was not written".

    Raises: DivergenceError with the name of the first such tensor.
    """
    tensors = [
        (name, local_part(tensor)) for name, tensor in named_tensors(values) if tensor.is_floating_point()
    ]
    finite = [torch.isfinite(tensor).all() for _, tensor in tensors]
    # One read for each device, because a read waits for a GPU.
    devices = {one.device for one in finite}
    if all(torch.stack([one for one in finite if one.device == device]).all() for device in devices):
        return
    for (name, _), good in zip(tensors, finite, strict=True):
        if not good:
            raise DivergenceError(f"{name} holds NaN or infinity {when}. {consequence}.")


def named_tensors(values: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dicts and lists, with the keys that lead to each, joined by dots."""
    if isinstance(values, Tensor):
        yield name, values
    elif isinstance(values, dict | list | tuple):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in items:
            yield from named_tensors(value, f"{name}.{key}" if name else str(key))


def write_config(folder: Path, text: str) -> None:
    """Write ``config.yaml``, unless it already has this content."""
    file = folder / "config.yaml"
    if not file.is_file() or file.read_bytes() != text.encode():
        with replacing(file) as config:
            config.write(text.encode())


def saved_position(file: Path) -> tuple[int, int]:
    """The iterations and the finished epochs of a state file, without its tensors.

    Returns: (-1, -1) if the file does not exist or cannot be read.
    """
    try:
        course = torch.load(file, "cpu", weights_only=True, mmap=True)["course"]
        return int(course["iteration"]), int(course["epochs"])
    except Exception:  # a damaged file makes torch raise almost anything
        return -1, -1


def read_state(file: Path) -> dict[str, Any]:
    """The content of a state file, on the CPU. Its counters are valid; `load_state` checks the other parts.

    If a sharded run wrote it, its tensors have no values; `shard_files` reads those.

    Raises: UserError if the file is missing, damaged or not a state.
    """
    state = read(file)
    texts = ("config", "list")
    if (
        not isinstance(state, dict)
        or not state.keys() >= _KEYS
        or not all(isinstance(state[name], str) for name in texts)
        or not isinstance(state["extras"], dict)
    ):
        raise UserError(
            f"{file} does not hold the state of a training. Name a state.pth that train.py wrote, or its "
            "folder."
        )
    known = SHARDED_FORMAT if "shards" in state else _FORMAT
    if type(state["format"]) is not int or state["format"] != known:
        raise UserError(
            f"{file} has format {state['format']}, but this version reads {known}. "
            "Resume with the version that wrote it."
        )
    if known == SHARDED_FORMAT:
        _check_shards(file, state["shards"])
    try:
        flat_config(state["config"])
        TrainState.from_state(state["course"])
    except _UNUSABLE as error:
        raise UserError(
            f"{file} is damaged: its config or counters are not usable ({error}). Delete it."
        ) from error
    return state


def _check_shards(file: Path, name: Any) -> None:
    if name not in SHARDS:
        raise UserError(f"{file} is damaged: it names {name!r} as the folder of its tensors. Delete it.")
    if not (file.parent / name / ".metadata").is_file():
        raise UserError(
            f"{file} was written with TRAIN.parallel fsdp, but the folder {name} beside it, which has its "
            "tensors, is missing or incomplete. Copy that, too, or delete the file."
        )


def check_state(
    file: Path, state: dict[str, Any], options: RunOptions, digest: str, *, model: bool = True
) -> list[str]:
    """Refuse a state that does not match this config. Returns notes on other keys that changed.

    Args:
        model: whether to compare the keys of the model, too. Not needed where its checkpoints are loaded,
            which are checked themselves.

    Raises: UserError that names every key of `MUST_AGREE` that differs.
    """
    stored = current_names(flat_config(state["config"]))  # an earlier release may have written it
    current = flat_config(options.config)
    changed = {key: (stored[key], value) for key, value in current.items() if stored.get(key, value) != value}
    broken = [
        f"{key} was {changed[key][0]}, is {changed[key][1]}"
        for key in MUST_AGREE
        if key in changed and (model or key not in _OF_MODEL)
    ]
    if state["list"] != digest:
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
        if key not in (*MUST_AGREE, *_OF_THE_RUN)
    ]
    return [f"Changed since the state was saved: {'; '.join(others)}"] if others else []


def load_state(
    file: Path,
    state: dict[str, Any],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    extras: dict[str, Stateful],
) -> tuple[TrainState, list[str]]:
    """Load a state into model, optimizer and ``extras``.

    Learning rates and other options of the optimizer are kept, so that a changed config takes effect.

    Args:
        state: the content of ``file``, see `read_state`.
        extras: further objects with a state, by name.

    Returns: the counters, and notes for the user.
    Raises: UserError if a part does not fit, or a weight is not finite. The weights and the optimizer are
        unchanged then.
    """
    for part in ("encoder", "decoder"):
        _check_weights(file, part, state[part], module.get_submodule(part).state_dict())
        require_usable(((f"{part}.{name}", local_part(value)) for name, value in state[part].items()), file)
    _check_optimizer(file, state["optimizer"], optimizer)
    others = {name: state[name] for name in ("optimizer", "extras")}
    require_usable(((name, local_part(value)) for name, value in named_tensors(others)), file)
    notes = []
    for name, extra in extras.items():
        if name not in state["extras"]:
            notes.append(f"{file} has no {name}: it starts from scratch")
            continue
        try:
            extra.load_state_dict(state["extras"][name])
        except _UNUSABLE as error:
            raise UserError(f"{file} does not fit: its {name} is from another model ({error}).") from error
    for part in ("encoder", "decoder"):
        module.get_submodule(part).load_state_dict(state[part])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})
    return TrainState.from_state(state["course"]), notes


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
        and stored.get("groups") == _group_sizes(optimizer)
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


def _group_sizes(optimizer: torch.optim.Optimizer) -> list[int]:
    return [len(group["params"]) for group in optimizer.param_groups]


def flat_config(text: str) -> dict[str, Any]:
    """The config in a YAML text as a dict with dotted keys: ``{"TRAIN.seed": 1, ...}``."""
    flat: dict[str, Any] = {}
    for section, value in yaml.safe_load(text).items():
        flat.update(
            {f"{section}.{key}": leaf for key, leaf in value.items()}
            if isinstance(value, dict)
            else {section: value}
        )
    return flat
