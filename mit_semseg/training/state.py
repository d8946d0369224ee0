"""The file ``DIR/state.pth``, from which a run resumes exactly: its content, writing and reading."""

import hashlib
import shutil
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import nn

from ..config import flat_config
from ..errors import DivergenceError, UserError
from ..models.weights.checkpoint import read, save_atomically
from ..runtime.distributed import local_part
from ..runtime.files import replacing
from .counters import TrainState
from .options import RunOptions
from .tensor_trees import named_tensors

NAME = "state.pth"
SHARDS = ("state_shards_0", "state_shards_1")
"""Folders beside a state file. One of them has its tensors if a sharded run wrote it, see `shard_files`."""

SHARDED_FORMAT = 2
_FORMAT = 1
_PARTS = ("encoder", "decoder", "optimizer", "extras")  # of a state: all that have tensors
# The counters are called "course", as in the files of release 2.0.
_KEYS = {"format", "config", "list", "course", "encoder", "decoder", "optimizer", "extras"}

UNUSABLE = (
    *(KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError),
    yaml.YAMLError,
)
"""What a value of another kind than expected makes Python, YAML and torch raise."""


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
        "optimizer": {"groups": group_sizes(optimizer), "state": optimizer.state_dict()["state"]},
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
    except UNUSABLE as error:
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


def group_sizes(optimizer: torch.optim.Optimizer) -> list[int]:
    """The number of parameters in each group of an optimizer."""
    return [len(group["params"]) for group in optimizer.param_groups]
