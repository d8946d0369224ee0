"""The course of a run as a picture, ``DIR/curves.png``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import replacing
from .history import History

_TRAIN, _VAL = "#4878a8", "#c8553d"
_SMOOTHED_OVER = 1 / 25  # of the points


def draw_curves(history: History, file: Path, title: str) -> None:
    """Draw loss, pixel accuracy and, if there are any, the scores of the validations over the epochs.

    The points of the log are drawn faintly, their moving mean boldly.

    Raises: UserError if the disk refuses.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second to import
    from matplotlib.figure import Figure

    has_val = bool(history.val["epoch"])
    figure = Figure(figsize=(12 if has_val else 8.5, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3 if has_val else 2)
    figure.suptitle(title, fontsize=11)
    _course(axes[0], history.epoch, history.loss)
    _decorate(axes[0], "loss", None)
    if history.loss and min(history.loss) >= 0:
        axes[0].set_ylim(0, _roof(history.loss))
    _course(axes[1], history.epoch, history.acc)
    if has_val:
        axes[1].plot(history.val["epoch"], history.val["acc"], "o-", color=_VAL, ms=4, label="validation")
        axes[1].legend(loc="best", frameon=False, fontsize=9)
        mean_iou = 100 * np.asarray(history.val["mean_iou"])
        axes[2].plot(history.val["epoch"], mean_iou, "o-", color=_VAL, ms=4)
        _mark_best(axes[2], history.val["epoch"], mean_iou)
        _decorate(axes[2], "validation mean IoU, %", 100)
    _decorate(axes[1], "pixel accuracy, %", 100)
    with replacing(file) as picture:
        figure.savefig(picture, format="png")


def _course(axes: Any, epochs: Sequence[float], values: Sequence[float]) -> None:
    """The points, and their moving mean over a twenty-fifth of them."""
    span = max(1, round(len(values) * _SMOOTHED_OVER))
    axes.plot(epochs, values, color=_TRAIN, alpha=0.3 if span > 1 else 1, lw=1 if span > 1 else 1.6)
    if span > 1:
        sums, places = np.cumsum([0.0, *values]), np.arange(len(values))
        starts, ends = np.maximum(places - span // 2, 0), np.minimum(places + span // 2 + 1, len(values))
        means = (sums[ends] - sums[starts]) / (ends - starts)
        axes.plot(epochs, means, color=_TRAIN, lw=1.8, label="training")
    else:
        axes.lines[0].set_label("training")
    if len(values) == 1:
        axes.lines[0].set_marker("o")


def _roof(values: Sequence[float]) -> float:
    """An upper end that leaves out the peaks of the first iterations, which would flatten all the rest."""
    return 1.08 * max(float(np.quantile(values, 0.98)), values[-1], 1e-6)


def _mark_best(axes: Any, epochs: Sequence[float], values: np.ndarray) -> None:
    if np.isnan(values).all():
        return
    best = int(np.nanargmax(values))
    axes.annotate(
        f"{values[best]:.2f}",
        (epochs[best], values[best]),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=_VAL,
    )


def _decorate(axes: Any, name: str, limit: float | None) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(name, fontsize=10)
    axes.set_xlabel("epoch", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if limit is not None:
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(0, bottom), min(limit, top + 0.08 * (top - bottom)))
