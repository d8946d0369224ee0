"""Where a training starts: anew, behind an epoch or where a state was saved; what it must not overwrite."""

from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from yacs.config import CfgNode

from ...checkpoint import epoch_path, newest_epoch, read
from ...errors import UserError
from .course import Course
from .history import History
from .state import NAME, check_state, list_digest, read_state

_ANEW = "or set DIR to another folder to train anew"


@dataclass(frozen=True)
class Start:
    """
    Attributes:
        weights: checkpoints of encoder and decoder, as `build_module` takes them.
        state: the file to go on from, whose weights count then; None without one.
        epoch: of ``TRAIN.start_epoch``, if there is no state of it; else 0.
        digest: of the training list.
        notes: what the user should know.
        finished: whether the state is the end of the run, so that there is nothing to do.
    """

    weights: tuple[str, str]
    state: Path | None
    epoch: int
    digest: str
    notes: tuple[str, ...] = ()
    finished: bool = False


def find_start(cfg: CfgNode) -> Start:
    """What ``TRAIN.resume`` and ``TRAIN.start_epoch`` come to.

    Raises: UserError for a state that can't be used, for an epoch that is not there, and if a new run would
        write over what another one has left in ``DIR``.
    """
    settings, folder = cfg.TRAIN, Path(cfg.DIR)
    digest = list_digest(cfg.DATASET.list_train)
    own = folder / NAME
    named = (cfg.MODEL.weights_encoder, cfg.MODEL.weights_decoder)
    if settings.start_epoch:
        return _behind_epoch(cfg, digest)
    if settings.resume == "off":
        _refuse_other_run(cfg, folder, others_config=True)
        return Start(named, None, 0, digest)
    if settings.resume == "auto":
        if own.is_file():
            return _from_state(own, cfg, digest)
        _refuse_other_run(cfg, folder, others_config=False)
        return Start(named, None, 0, digest)
    path = Path(settings.resume)
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"TRAIN.resume is {settings.resume}, but {file} does not exist. Name a state file or the folder "
            "of a run; auto goes on with the run in DIR, off begins a new one."
        )
    if file.parent.resolve() != folder.resolve():
        _refuse_other_run(cfg, folder, others_config=True)
    return _from_state(file, cfg, digest)


def starting_course(start: Start, cfg: CfgNode, sub_batches: int) -> Course:
    """The course of a run that goes on from no state: at the beginning, or behind an epoch.

    Args:
        sub_batches: that an iteration uses up, of all devices.

    Raises: UserError for a history that can't be read.
    """
    iteration = start.epoch * cfg.TRAIN.epoch_iters
    course = Course(iteration, iteration * sub_batches, epochs=start.epoch)
    if start.epoch:
        course.history = _read_history(epoch_path(cfg.DIR, "history", start.epoch))
    return course


def _from_state(file: Path, cfg: CfgNode, digest: str, *, model: bool = True) -> Start:
    settings = cfg.TRAIN
    try:
        state = read_state(file)
    except UserError as error:
        raise UserError(f"{error}{_way_around(file.parent)}") from error
    notes = check_state(file, state, cfg, digest, model=model)
    course = Course.from_state(state["course"])
    if course.iteration > settings.num_epoch * settings.epoch_iters:
        raise UserError(
            f"{file} is of epoch {course.iteration / settings.epoch_iters:.4g}, but the run ends at "
            f"TRAIN.num_epoch {settings.num_epoch}. Set TRAIN.num_epoch higher to train on."
        )
    finished = course.has_ended(settings.num_epoch, settings.patience)
    if finished:
        done = course.epochs >= settings.num_epoch
        key = "TRAIN.num_epoch" if done else "TRAIN.patience"
        reason = (
            f"all {course.epochs} epochs are done" if done else f"{course.stale} validations without a gain"
        )
        notes = [*notes, f"{file.parent} is finished: {reason}. Set {key} higher to train on."]
    return Start(("", ""), file, 0, digest, tuple(notes), finished)


def _behind_epoch(cfg: CfgNode, digest: str) -> Start:
    """``TRAIN.start_epoch``: exact if the state is of that epoch's end, else from the epoch's weights."""
    epoch, notes = cfg.TRAIN.start_epoch, []
    if cfg.MODEL.weights_encoder or cfg.MODEL.weights_decoder:
        notes.append(f"MODEL.weights_* have no effect, because TRAIN.start_epoch is {epoch}")
    files = [epoch_path(cfg.DIR, part, epoch) for part in ("encoder", "decoder")]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"TRAIN.start_epoch is {epoch}, but {file} does not exist. Set an epoch that does, or 0."
            )
    state = Path(cfg.DIR, NAME)
    if not state.is_file():
        why = f"{state} does not exist"
    else:
        course = Course.from_state(read_state(state)["course"])
        if course.epochs == epoch and course.iteration == epoch * cfg.TRAIN.epoch_iters:
            start = _from_state(state, cfg, digest, model=False)
            return replace(start, weights=(str(files[0]), str(files[1])), notes=(*notes, *start.notes))
        why = f"{state} is of iteration {course.iteration} (TRAIN.resume auto goes on there)"
    return Start(
        (str(files[0]), str(files[1])), None, epoch, digest, (*notes, f"{why}: the optimizer starts afresh")
    )


def _refuse_other_run(cfg: CfgNode, folder: Path, *, others_config: bool) -> None:
    """Refuse to begin a run in a folder that holds one.

    Args:
        others_config: whether a mere ``config.yaml`` counts, if it is another one.
    """
    newest = newest_epoch(folder)
    if (folder / NAME).is_file():
        raise UserError(
            f"{folder} holds a run already. Set TRAIN.resume auto to go on where it stands, {_ANEW}."
        )
    if newest is not None:
        raise UserError(
            f"{folder} holds checkpoints already, up to epoch {newest}, but no {NAME}. Set TRAIN.start_epoch "
            f"{newest} to go on behind them with a fresh optimizer, {_ANEW}."
        )
    config = folder / "config.yaml"
    if others_config and config.is_file() and _differs(config, cfg):
        raise UserError(
            f"{config} is of another run, which has no checkpoint yet. Set TRAIN.resume auto to use the "
            f"folder nevertheless, {_ANEW}."
        )


def _differs(file: Path, cfg: CfgNode) -> bool:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) != yaml.safe_load(cfg.dump())
    except (OSError, ValueError, yaml.YAMLError):
        return True


def _way_around(folder: Path) -> str:
    newest = newest_epoch(folder)
    if newest is None:
        return ""
    return f" Without it, TRAIN.start_epoch {newest} goes on from the weights of the newest epoch."


def _read_history(file: Path) -> History:
    if not file.is_file():
        return History()
    try:
        return History.from_dict(read(file))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{file} holds no history of a training. Delete it to begin a new one.") from None
