"""What the folder of a run tells, also while it trains or after it was killed. Nothing in it is changed."""

import contextlib
import csv
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import yaml

from ..config import current_names, flat_config
from ..errors import UserError
from ..models.weights.checkpoint import epoch_path, newest_epoch, read
from ..runtime.claim import owner_of
from ..tracking import read_identity
from ..training.history import COLUMNS, History
from ..training.state import NAME as STATE

TRAINING, FINISHED, STOPPED, DEAD = "training", "finished", "stopped", "dead"

_LOG_TAIL = 2**16  # bytes of the log that are read, from its end
_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (.*)$")
_LEFT = re.compile(r"^Epoch .*  left (?:(\d+):)?(\d+):(\d\d)(?:\s|$)")
_LONGEST_NOTE = 200  # characters


@dataclass(frozen=True)
class Point:
    """A row of the history. Accuracies are in percent; ``mean_iou`` is a share. NaN for what it lacks."""

    iteration: int
    epoch: float
    loss: float
    accuracy: float
    mean_iou: float
    val_accuracy: float


@dataclass(frozen=True)
class Run:
    """A run as its folder shows it.

    Attributes:
        name: path of the folder below the one that was searched.
        config: by dotted names; {} if it is unknown.
        state: "training", "finished", "stopped" (by a signal; it can be resumed) or "dead".
        note: the process that trains, or what ended the run; "" if nothing is known.
        left_s: seconds that the training will still take; None if it does not train or has no estimate.
        updated: time of the last line, in seconds since the epoch.
        history: training points and validations, in their order.
        evaluation: the content of ``result/metrics.json``; {} without one.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    state: str
    note: str
    left_s: float | None
    updated: float
    history: list[Point] = field(repr=False)
    evaluation: dict[str, Any] = field(repr=False)

    @property
    def model(self) -> str:
        """Encoder and decoder; "" if the config is unknown."""
        parts = [self.config.get(f"MODEL.arch_{part}") for part in ("encoder", "decoder")]
        return " + ".join(map(str, parts)) if all(parts) else ""

    @property
    def data(self) -> str:
        """The folder of the training list; "" if the config is unknown."""
        parent = Path(str(self.config.get("DATASET.list_train", ""))).parent
        return parent.name or str(self.config.get("DATASET.root_dataset", "")).strip("./")

    @property
    def num_epoch(self) -> int | None:
        return _count(self.config.get("TRAIN.num_epoch"))

    @property
    def epochs(self) -> float:
        """Epochs done, as a fraction; 0 without a history."""
        return max((point.epoch for point in self.history), default=0.0)

    @property
    def best(self) -> Point | None:
        """The validation with the highest mean IoU; None without one."""
        validations = [point for point in self.history if not isnan(point.mean_iou)]
        return max(validations, key=lambda point: point.mean_iou, default=None)

    @property
    def score(self) -> float | None:
        """The highest mean IoU of a validation, or else that of the evaluation; None without both."""
        evaluated = self.evaluation.get("mean_iou")
        if self.best is not None:
            return self.best.mean_iou
        return float(evaluated) if isinstance(evaluated, int | float) else None


def is_run(folder: Path) -> bool:
    """Whether a training has written into a folder, now or with an earlier release."""
    names = ("history.csv", STATE)
    return any((folder / name).is_file() for name in names) or any(folder.glob("history_epoch_*.pth"))


def read_run(folder: Path, name: str) -> Run:
    """The run in a folder. Files that are missing, damaged or half-written count as far as they go."""
    config = read_config_of(folder)
    log, updated = _log_lines(folder)
    history = _history(folder, config)
    owner = owner_of(folder)
    left = None
    if owner is not None and owner.get("doing", "trained") == "trained":
        state, note = TRAINING, _owner(owner)
        left = _time_left(log, updated)
    else:
        state, note = _ending(folder, config, log)
    evaluation = _json(folder / "result" / "metrics.json")
    return Run(folder, name, config, state, note, left, updated, history, evaluation)


def read_config_of(folder: Path) -> dict[str, Any]:
    """The config of the newest start of a run, by dotted names; {} if there is none that can be read."""
    texts = [read_identity(folder).get("config", "")]
    with contextlib.suppress(OSError, ValueError):
        texts.append((folder / "config.yaml").read_text(encoding="utf-8"))
    for text in filter(None, texts):
        try:
            return current_names(flat_config(text))
        except (yaml.YAMLError, AttributeError, TypeError, ValueError, RecursionError):
            continue
    return {}


def _history(folder: Path, config: dict[str, Any]) -> list[Point]:
    try:
        with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
            return list(_points(csv.reader(file)))
    except (OSError, ValueError, csv.Error):
        pass
    return _old_history(folder, config)


def _points(rows: Iterator[list[str]]) -> Iterator[Point]:
    """The points in the rows of ``history.csv``. The last row may be half-written."""
    for row in rows:
        if len(row) != len(COLUMNS) or row[0] == COLUMNS[0]:
            continue
        cells = dict(zip(COLUMNS, row, strict=True))
        try:
            number = {name: float(cell) if cell else float("nan") for name, cell in cells.items()}
            yield Point(
                iteration=int(number["iteration"]),
                epoch=number["epoch"],
                loss=number["loss"],
                accuracy=number["accuracy"],
                mean_iou=number["val_mean_iou"],
                val_accuracy=number["val_accuracy"],
            )
        except ValueError:
            continue


def _old_history(folder: Path, config: dict[str, Any]) -> list[Point]:
    """The history of a run without a table, such as one of the old package, from its newest checkpoint."""
    try:
        newest = newest_epoch(folder)
        stored = History.from_dict(read(epoch_path(folder, "history", newest or 0)))
    except (UserError, AttributeError, KeyError, TypeError, ValueError):
        return []
    return list(_points([str(cell) for cell in row] for row in stored.rows(_epoch_iters(config))))


def _epoch_iters(config: dict[str, Any]) -> int:
    return _count(config.get("TRAIN.epoch_iters")) or 1


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _log_lines(folder: Path) -> tuple[list[str], float]:
    """The last messages of the log, and the time of its last change, or that of the folder."""
    try:
        with (folder / "log.txt").open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_TAIL))
            text = file.read().decode("utf-8", "replace")
        found = [_LINE.match(line) for line in text.splitlines()]
        return [match[1] for match in found if match], (folder / "log.txt").stat().st_mtime
    except OSError:
        return [], folder.stat().st_mtime


def _owner(owner: dict[str, Any]) -> str:
    if not owner:
        return "by another process"
    return f"process {owner.get('process', '?')} on {owner.get('host', '?')} since {owner.get('since', '?')}"


def _time_left(log: list[str], updated: float) -> float | None:
    """Seconds that are left, according to the last progress line and its age."""
    for message in reversed(log):
        if match := _LEFT.match(message):
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            return max(0.0, 3600 * hours + 60 * minutes + seconds - (time.time() - updated))
    return None


def _ending(folder: Path, config: dict[str, Any], log: list[str]) -> tuple[str, str]:
    """The state of a run that does not train, and what ended it."""
    newest, wanted = _newest(folder), _count(config.get("TRAIN.num_epoch"))
    for message in reversed(log):
        if message.startswith("Stopped early"):
            return FINISHED, message
        if message.startswith("Training ") or (newest is not None and newest == wanted):
            break
        if message.startswith(("Stopped by", "Ended by KeyboardInterrupt", "Ended by SystemExit")):
            return STOPPED, _short(message.split(". To resume", 1)[0])
        if message.startswith("Ended by"):
            return DEAD, _short(message.removeprefix("Ended by "))
    if newest is not None and (wanted is None or newest >= wanted):
        return FINISHED, ""
    if not log:  # the old package writes none
        return STOPPED, ""
    return DEAD, "no process trains here, and the log has no end: it was killed"


def _newest(folder: Path) -> int | None:
    try:
        return newest_epoch(folder)
    except UserError:
        return None


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_NOTE else f"{text[:_LONGEST_NOTE]} ..."


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
