"""The runs below a folder, and their list as text and JSON."""

import datetime
import os
import sys
import time
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..runtime.near_names import did_you_mean
from .run import Run, is_run, read_run

# Subfolders of a run that hold no runs, and may hold many files.
_RUN_FOLDERS = {"tensorboard", "wandb", "samples", "result"}


def find_runs(root: Path) -> list[Run]:
    """The runs in a folder and below it, sorted by name. Links to folders are not followed.

    Raises: UserError if there is no such folder.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        hint = did_you_mean(root) or " Name the folder that holds the runs: mit-semseg runs FOLDER."
        raise UserError(f"{root} {what}.{hint}")
    runs = []
    for place, folders, _ in os.walk(root, onerror=_report):
        here = is_run(Path(place))
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not (here and name in _RUN_FOLDERS)
        )
        if here:
            name = Path(place).relative_to(root).as_posix()
            runs.append(read_run(Path(place), root.resolve().name if name == "." else name))
    return runs


def _report(error: OSError) -> None:
    sys.stderr.write(f"{error.filename} cannot be read: {error.strerror}.\n")


def as_text(runs: Sequence[Run]) -> str:
    """A table with one line for each run; below it, why a run does not train any more."""
    rows = [
        ("run", "state", "model", "data", "mean IoU", "epochs", "left", "updated"),
        *((run.name, run.state, run.model or "?", run.data or "?", *_figures(run)) for run in runs),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    notes = [f"{run.name}: {run.note}" for run in runs if run.note]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def _figures(run: Run) -> tuple[str, str, str, str]:
    return score_of(run), epochs_of(run), duration(run.left_s), age(run.updated)


def score_of(run: Run) -> str:
    """The score, with the epoch of the best validation; "-" without one."""
    if run.score is None:
        return "-"
    where = f" (epoch {run.best.epoch:g})" if run.best else " (evaluated)"
    return f"{run.score:.4f}{where}"


def epochs_of(run: Run) -> str:
    """Epochs done and wanted: ``3.5/20``."""
    done = f"{run.epochs:.2f}".rstrip("0").rstrip(".")
    return f"{done}/{run.num_epoch or '?'}"


def duration(seconds: float | None) -> str:
    """A duration in two units at most: ``2 h 05 min``; "-" for None."""
    if seconds is None:
        return "-"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min" if minutes else f"{left} s"


def age(moment: float) -> str:
    """How long ago a moment was: ``3 min ago``."""
    return f"{duration(max(0.0, time.time() - moment))} ago"


def as_json(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The runs ready for JSON. What is unknown is None."""
    return [
        {
            "name": run.name,
            "folder": str(run.folder),
            "state": run.state,
            "note": run.note,
            "model": run.model or None,
            "data": run.data or None,
            "best_mean_iou": run.best.mean_iou if run.best else None,
            "best_epoch": run.best.epoch if run.best else None,
            "evaluated_mean_iou": run.evaluation.get("mean_iou"),
            "loss": next((point.loss for point in reversed(run.history) if not isnan(point.loss)), None),
            "epochs": run.epochs,
            "num_epoch": run.num_epoch,
            "seconds_left": None if run.left_s is None else round(run.left_s),
            "updated": datetime.datetime.fromtimestamp(run.updated).astimezone().isoformat("T", "seconds"),
        }
        for run in runs
    ]
