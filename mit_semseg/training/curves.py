"""The learning curves of a run, ``DIR/curves.png``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.files import replacing
from .history import History

_TRAIN, _VAL = "#4878a8", "#c8553d"
_SMOOTHED_OVER = 1 / 25  # of the points


def draw_curves(history: History, file: Path, title: str) -> None:
    """Plot loss, pixel accuracy and, if there are any, the validation scores over the epochs.

    The points of the log are faint, their moving mean is bold.

    Raises: UserError if the disk refuses.
    """
    FigureCanvasAgg, Figure = _matplotlib()
    has_val = bool(history.val["epoch"])
    figure = Figure(figsize=(12 if has_val else 8.5, 3.6), dpi=120)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(0.05 if has_val else 0.07, 0.13, 0.98, 0.83, wspace=0.17)
    axes = figure.subplots(1, 3 if has_val else 2)
    figure.suptitle(title, fontsize=11)
    points = np.array([history.epoch, history.loss, history.acc])
    epochs, loss, accuracy = points[:, ~np.isnan(points[1])]  # without those where no pixel was labelled
    _course(axes[0], epochs, loss)
    _decorate(axes[0], "loss", None)
    if loss.size and loss.min() >= 0:
        axes[0].set_ylim(0, _roof(loss))
    _course(axes[1], epochs, accuracy)
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


def _matplotlib() -> tuple[Any, Any]:
    """FigureCanvasAgg and Figure of matplotlib, which takes a second to import.

    The variable MPLBACKEND has no effect here. A notebook sets it for the processes that it starts, and the
    import would fail if they lack the notebook's package.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return FigureCanvasAgg, Figure


def _course(axes: Any, epochs: np.ndarray, values: np.ndarray) -> None:
    """Plot the points, and their moving mean over a twenty-fifth of them."""
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


def _roof(values: np.ndarray) -> float:
    """An upper limit that cuts off the peaks of the first iterations, which would flatten the rest."""
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
