"""The page that compares runs: computes the values that report/templates/runs.html lays out."""

import datetime
from collections.abc import Sequence
from typing import Any

from ..config.keys import KEYS
from ..report.page import ENVIRONMENT
from .charts import HEIGHT, WIDTH, charts
from .listing import age, duration, epochs_of
from .run import Run
from .samples import samples

# Distinct on white and on black, also for most people with a colour deficiency, in an order that keeps
# neighbours apart. Further runs repeat them with dashed lines.
_COLORS = ("#3b7dd8", "#e07b24", "#2f9e6e", "#c94f8c", "#8a63d2", "#b08900", "#1fa3b5", "#d2504b")
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_RUN_KEYS = {"DIR", "TRAIN.resume", "TRAIN.start_epoch"}  # where a run is and starts, not what it computes
_UNKNOWN = "–"  # noqa: RUF001


def render(runs: Sequence[Run], title: str) -> str:
    """The page as HTML, which needs no other file.

    Args:
        title: names the folder of the runs.
    """
    return ENVIRONMENT.get_template("runs.html").render(
        title=title,
        now=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        runs=[_shown(run, index) for index, run in enumerate(runs)],
        charts=charts(runs),
        width=WIDTH,
        height=HEIGHT,
        differences=differences(runs),
        samples=samples(runs),
    )


def _shown(run: Run, index: int) -> dict[str, Any]:
    return {
        "name": run.name,
        "state": run.state,
        "note": run.note,
        "model": run.model or _UNKNOWN,
        "data": run.data or _UNKNOWN,
        "score": run.score,
        "best_epoch": f"{run.best.epoch:g}" if run.best else "",
        "epochs": epochs_of(run),
        "left": "" if run.left_s is None else duration(run.left_s),
        "updated": age(run.updated),
        "color": _COLORS[index % len(_COLORS)],
        "dashes": _DASHES[index // len(_COLORS) % len(_DASHES)],
    }


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The config keys whose values differ between runs, with the value of each run.

    Keys follow the order of docs/config.md. A run whose config is unknown is not compared.
    """
    known = [run.config for run in runs if run.config]
    order = {key.name: place for place, key in enumerate(KEYS)}
    names = {name for config in known for name in config} - _RUN_KEYS
    rows = []
    for name in sorted(names, key=lambda name: (order.get(name, len(order)), name)):
        values = [_text(run.config, name) for run in runs]
        if len({_text(config, name) for config in known}) > 1:
            rows.append((name, values))
    return rows


def _text(config: dict[str, Any], name: str) -> str:
    if name not in config:
        return _UNKNOWN
    value = config[name]
    return '""' if value == "" else str(value)
