"""The start of a training: from scratch, after an epoch, or from a saved state.

A new run never overwrites another one. ``TRAIN.start_epoch`` replaces the later epochs of its own run.

Rank 0 decides, unless ``TRAIN.resume`` is auto and another process has a newer state: then that process does.
It reads all files, and the other processes get their content from it. So the machines of a run need not share
a disk, and cannot start from different points.
"""

import io
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from .. import __version__
from ..config import flat_config
from ..config.keys import KEYS
from ..errors import UserError
from ..models.weights.checkpoint import epoch_path, newest_epoch, read
from ..runtime.distributed import (
    ProcessInfo,
    broadcast_bytes,
    failing_together,
    gather_from_processes,
    require_equal,
)
from ..runtime.paths import resolved
from .counters import TrainState
from .history import History
from .options import RunOptions
from .shard_files import read_whole_state
from .state import NAME, list_digest, read_state, saved_position
from .state_fit import check_state

_OR_NEW = "or set DIR to another folder to start a new run"
# Keys whose values may differ between the machines of a run: paths, and settings of a single process.
_MACHINE_KEYS = ("TRAIN.workers", "DATASET.cache_gb", *(key.name for key in KEYS if key.is_path))


@dataclass(frozen=True)
class Start:
    """The point from which a run starts.

    Attributes:
        weights: checkpoints of encoder and decoder to start from; "" for none.
        state_file: the state to resume, whose weights take precedence; None without one.
        epoch: ``TRAIN.start_epoch`` if no state of that epoch exists, else 0.
        digest: SHA-256 of the training list.
        history: the history of the epochs before ``epoch``.
        notes: messages for the user.
        finished: whether the state is the end of the run, so that there is nothing to do.
        source: rank of the process that decides, and has the files.
    """

    weights: tuple[str, str]
    state_file: Path | None
    epoch: int
    digest: str
    history: History = field(default_factory=History)
    notes: tuple[str, ...] = ()
    finished: bool = False
    source: int = 0


def agree_on_start(process: ProcessInfo, options: RunOptions) -> Start:
    """The start of all processes of a run, which rank 0 or the process with the newest state finds.

    Raises: UserError, in all processes, for the reasons of `find_start`, and if the list, the config or the
        version of a process differs from that of rank 0.
    """
    with failing_together():
        digest = list_digest(options.train_list)
    _require_equal_runs(options, digest)
    source, notes = _with_newest_state(options) if options.resume == "auto" else (0, ())
    with failing_together():
        if process.is_first:
            _refuse_folders(options.folder)
        start = find_start(options, digest) if process.rank == source else None
    start = gather_from_processes(start)[source]
    assert start is not None
    return replace(start, source=source, notes=(*notes, *start.notes))


def read_shared_state(process: ProcessInfo, start: Start) -> dict[str, Any]:
    """The content of the state to resume, in all processes. Raises: UserError if it cannot be used."""
    file, is_source = start.state_file, process.rank == start.source
    assert file is not None
    if process.size == 1:
        return read_whole_state(file)
    with failing_together():
        content = read_whole_state(file) if is_source else {}
        data = b""
        if "shards" in content:
            stream = io.BytesIO()
            torch.save(content, stream)
            data = stream.getvalue()
        elif is_source:
            data = file.read_bytes()
    received = io.BytesIO(broadcast_bytes(data, start.source))
    return content if is_source else torch.load(received, "cpu", weights_only=True)


def find_start(options: RunOptions, digest: str) -> Start:
    """The start of a run, according to ``TRAIN.resume`` and ``TRAIN.start_epoch``.

    Args:
        digest: `list_digest` of the training list.

    Raises: UserError for a state that can't be used, for an epoch without files, and if a new run would
        overwrite the files of another one in ``DIR``.
    """
    own = options.folder / NAME
    if options.start_epoch:
        return _after_epoch(options, digest)
    if options.resume == "off":
        _refuse_other_run(options, others_config=True)
        return Start(options.weights, None, 0, digest)
    if options.resume == "auto":
        if own.is_file():
            return _from_state(own, options, digest)
        _refuse_other_run(options, others_config=False)
        return Start(options.weights, None, 0, digest)
    path = Path(options.resume)
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"TRAIN.resume is {options.resume}, but {file} does not exist. Name a state file or the folder "
            "of a run; auto resumes the run in DIR, off starts a new one."
        )
    if resolved(file.parent) != resolved(options.folder):
        _refuse_other_run(options, others_config=True)
    return _from_state(file, options, digest)


def initial_state(start: Start, options: RunOptions, sub_batches: int) -> TrainState:
    """The counters of a run without a state to resume: zero, or those after an epoch.

    Args:
        sub_batches: how many sub-batches an iteration uses on all devices.
    """
    iteration = start.epoch * options.epoch_iters
    return TrainState(
        iteration,
        iteration * sub_batches,
        epochs=start.epoch,
        history=start.history,
        first_sub_batches=sub_batches,
    )


def _require_equal_runs(options: RunOptions, digest: str) -> None:
    """Refuse processes whose config or lists differ from rank 0's. Raises: UserError, the same in all."""
    keys = {key: value for key, value in flat_config(options.config).items() if key not in _MACHINE_KEYS}
    with failing_together():
        validation = list_digest(options.validation_list) if options.validation_list else ""
    lists = {"the content of DATASET.list_train": digest, "the content of DATASET.list_val": validation}
    versions = {"the version of mit_semseg": __version__, "the version of PyTorch": torch.__version__}
    require_equal({**versions, **keys, **lists}, "train the same run")


def _with_newest_state(options: RunOptions) -> tuple[int, tuple[str, ...]]:
    """The lowest rank that has the newest state in its ``DIR``, or 0 if none has one; and notes for the user.

    A machine that has just joined has no state, or an old one, and may be the one of rank 0.
    """
    mine = socket.gethostname(), saved_position(options.folder / NAME)
    found = gather_from_processes(mine)
    source = max(range(len(found)), key=lambda rank: found[rank][1])
    if source == 0:
        return 0, ()
    host, (iteration, _) = found[source]
    return source, (f"The newest state is that of process {source} on {host}, after iteration {iteration}",)


def _from_state(file: Path, options: RunOptions, digest: str, *, model: bool = True) -> Start:
    try:
        content = read_state(file)
    except UserError as error:
        raise UserError(f"{error}{_way_around(file.parent, options.folder)}") from error
    notes = check_state(file, content, options, digest, model=model)
    state = TrainState.from_state(content["course"])
    if state.iteration > options.iterations:
        raise UserError(
            f"{file} is at epoch {state.iteration / options.epoch_iters:.4g}, but the run ends at "
            f"TRAIN.num_epoch {options.num_epoch}. Set TRAIN.num_epoch higher to train on."
        )
    finished = state.has_ended(options.num_epoch, options.patience)
    if finished:
        done = state.epochs >= options.num_epoch
        key = "TRAIN.num_epoch" if done else "TRAIN.patience"
        reason = (
            f"all {state.epochs} epochs are done" if done else f"{state.stale} validations did not improve"
        )
        notes = [*notes, f"{file.parent} is finished: {reason}. Set {key} higher to train on."]
    return Start(("", ""), file, 0, digest, notes=tuple(notes), finished=finished)


def _after_epoch(options: RunOptions, digest: str) -> Start:
    """The start for ``TRAIN.start_epoch``: from the state if it is of that epoch, else from the weights."""
    epoch, notes = options.start_epoch, []
    if any(options.weights):
        notes.append(f"MODEL.weights_* have no effect, because TRAIN.start_epoch is {epoch}")
    files = [epoch_path(options.folder, part, epoch) for part in ("encoder", "decoder")]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"TRAIN.start_epoch is {epoch}, but {file} does not exist. Set an epoch that does, or 0."
            )
    weights = str(files[0]), str(files[1])
    state_file = options.folder / NAME
    if not state_file.is_file():
        why = f"{state_file} does not exist"
    else:
        state = TrainState.from_state(read_state(state_file)["course"])
        if state.epochs == epoch and state.iteration == epoch * options.epoch_iters:
            start = _from_state(state_file, options, digest, model=False)
            return replace(start, weights=weights, notes=(*notes, *start.notes))
        why = f"{state_file} is at iteration {state.iteration} (TRAIN.resume auto resumes there)"
    history = _read_history(epoch_path(options.folder, "history", epoch))
    notes.append(f"{why}: the optimizer starts from scratch")
    return Start(weights, None, epoch, digest, history, tuple(notes))


def _refuse_folders(folder: Path) -> None:
    """Refuse folders that have the name of a file of the run, before an epoch is lost."""
    for name in ("config.yaml", "run.json", "log.txt", "history.csv", "curves.png", NAME):
        if (folder / name).is_dir():
            raise UserError(
                f"{folder / name} is a folder, but a run writes a file of this name. Rename it, {_OR_NEW}."
            )


def _refuse_other_run(options: RunOptions, *, others_config: bool) -> None:
    """Refuse to start a run in a folder that holds one.

    Args:
        others_config: whether a ``config.yaml`` without a checkpoint counts as a run, if it differs.
    """
    folder = options.folder
    newest = newest_epoch(folder)
    if (folder / NAME).is_file():
        raise UserError(f"{folder} already holds a run. Set TRAIN.resume auto to resume it, {_OR_NEW}.")
    if newest is not None:
        raise UserError(
            f"{folder} already holds checkpoints, up to epoch {newest}, but no {NAME}. Set TRAIN.start_epoch "
            f"{newest} to continue from them with a fresh optimizer, {_OR_NEW}."
        )
    config = folder / "config.yaml"
    if others_config and config.is_file() and _differs(config, options.config):
        raise UserError(
            f"{config} is from another run, which has no checkpoint yet. Set TRAIN.resume auto to use the "
            f"folder nevertheless, {_OR_NEW}."
        )


def _differs(file: Path, config: str) -> bool:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) != yaml.safe_load(config)
    except (OSError, ValueError, yaml.YAMLError):
        return True


def _way_around(folder: Path, own: Path) -> str:
    """How to continue without the state in ``folder``. ``own`` is the folder of this run."""
    newest = newest_epoch(folder)
    if newest is None:
        return ""
    if resolved(folder) == resolved(own):
        return f" Without it, TRAIN.start_epoch {newest} continues from the weights of the newest epoch."
    keys = " ".join(
        f"MODEL.weights_{part} {epoch_path(folder, part, newest)}" for part in ("encoder", "decoder")
    )
    return f" To start a new run from the weights of its newest epoch, set {keys}."


def _read_history(file: Path) -> History:
    if not file.is_file():
        return History()
    try:
        return History.from_dict(read(file))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{file} does not hold the history of a training. Delete it to start a new one."
        ) from None
