"""The results of an evaluation, added to what the trackers have of the run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..runtime.claim import owner_of
from ..runtime.log import get_logger
from .identity import read_identity
from .tracker import Ending, TrackedRun
from .trackers import open_trackers, package_of


def report_results(
    names: Sequence[str],
    folder: Path,
    keys: Mapping[str, Any],
    step: int,
    scores: Mapping[str, float],
    files: Sequence[Path],
) -> None:
    """Report scores and a report to the trackers that keep files, and wait a limited time for them.

    Nothing happens for a run that was not tracked. While it still trains, only a note says so: two processes
    cannot write to one run.

    Args:
        names: of the trackers.
        folder: of the run.
        keys: its config, by dotted names.
        step: iterations after which the weights were saved.
        scores: by name; NaN for one that does not exist.
    """
    wanted = [name for name in names if name != "tensorboard" and not package_of(name)]
    identity = read_identity(folder)
    if not wanted or not identity:
        return
    if owner_of(folder) is not None:
        get_logger().warning(
            "The results are not sent to %s, because the run still trains. Evaluate it again when it has "
            "ended.",
            " and ".join(wanted),
        )
        return
    run = TrackedRun(identity["id"], folder, identity["config"], keys, resumed=True, ended=True)
    trackers = open_trackers(wanted, run)
    trackers.scalars(step, scores)
    trackers.files("report", files)
    trackers.close(Ending.FINISHED)
