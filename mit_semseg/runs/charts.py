"""The curves of several runs in one drawing, as SVG paths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .run import Run

WIDTH, HEIGHT = 340, 200  # of the plotted area, in units of the drawing
_MOST_POINTS = 200  # of a curve; more would not be visible
_SMOOTHED_OVER = 1 / 25  # of the points, as in curves.png
_ROOF_QUANTILE = 0.98  # cuts off the peaks of the first iterations, which would flatten the rest


@dataclass(frozen=True)
class Curve:
    """The curve of a run. ``dots`` are (x, y, text) of points that are marked."""

    run: int
    path: str
    dots: list[tuple[float, float, str]]


@dataclass(frozen=True)
class Chart:
    """A drawing with the curves of all runs that have one.

    Attributes:
        ticks_x, ticks_y: (position, text).
    """

    title: str
    curves: list[Curve]
    ticks_x: list[tuple[float, str]]
    ticks_y: list[tuple[float, str]]


def charts(runs: Sequence[Run]) -> list[Chart]:
    """Loss, pixel accuracy and validation mean IoU over the iterations; those for which there are points."""
    found = [
        _chart("Training loss", [_series(run, "loss") for run in runs], smooth=True),
        _chart("Training accuracy, %", [_series(run, "accuracy") for run in runs], smooth=True),
        _chart("Validation mean IoU, %", [_series(run, "mean_iou", 100) for run in runs], smooth=False),
    ]
    return [chart for chart in found if chart is not None]


def _series(run: Run, name: str, factor: float = 1) -> NDArray[np.float64]:
    """(2, n): the iterations and the finite values of a column of the history."""
    points = [(point.iteration, factor * getattr(point, name)) for point in run.history]
    return np.array([point for point in points if math.isfinite(point[1])], float).reshape(-1, 2).T


def _chart(title: str, series: Sequence[NDArray[np.float64]], *, smooth: bool) -> Chart | None:
    """A chart of the series; None if all are empty.

    Args:
        smooth: draw moving means. Otherwise, the points are marked.
    """
    drawn = [(run, _smoothed(one) if smooth else one) for run, one in enumerate(series) if one.size]
    if not drawn:
        return None
    values = np.concatenate([one[1] for _, one in drawn])
    last = max(one[0, -1] for _, one in drawn)
    low, high = float(values.min()), float(np.quantile(values, _ROOF_QUANTILE)) if smooth else values.max()
    high = max(high, *(one[1, -1] for _, one in drawn))
    ticks_y = _ticks(low, high, 5)
    low, high = min(low, ticks_y[0]), max(high, ticks_y[-1])
    ticks_x = [tick for tick in _ticks(0, last, 4) if tick <= last]

    def place(one: NDArray[np.float64]) -> NDArray[np.float64]:
        x = WIDTH * one[0] / max(last, 1)
        y = HEIGHT * (high - np.minimum(one[1], high)) / max(high - low, 1e-12)
        return np.stack([x, y], axis=1).round(1)

    def y_of(value: float) -> float:
        return float(place(np.array([[0.0], [value]]))[0, 1])

    return Chart(
        title,
        [
            _curve(run, place(_thinned(one)), one if not smooth or one.shape[1] == 1 else None)
            for run, one in drawn
        ],
        [(WIDTH * tick / max(last, 1), _number(tick)) for tick in ticks_x],
        [(y_of(tick), _number(tick)) for tick in ticks_y],
    )


def _curve(run: int, places: NDArray[np.float64], marked: NDArray[np.float64] | None) -> Curve:
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in places)
    dots: list[tuple[float, float, str]] = []
    if marked is not None and marked.shape[1] <= _MOST_POINTS:
        texts = [f"{value:.4g} at iteration {iteration:g}" for iteration, value in marked.T]
        dots = [(float(x), float(y), text) for (x, y), text in zip(places, texts, strict=True)]
    return Curve(run, path, dots)


def _smoothed(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """The moving mean over a twenty-fifth of the points."""
    count = series.shape[1]
    span = max(1, round(count * _SMOOTHED_OVER))
    sums, places = np.cumsum([0.0, *series[1]]), np.arange(count)
    starts, ends = np.maximum(places - span // 2, 0), np.minimum(places + span // 2 + 1, count)
    return np.stack([series[0], (sums[ends] - sums[starts]) / (ends - starts)])


def _thinned(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `_MOST_POINTS` of the points, with the first and the last."""
    count = series.shape[1]
    return series[:, np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).round().astype(int))]


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers that cover a range, in steps of 1, 2 or 5 times a power of ten."""
    width = max(high - low, 1e-9 * max(abs(high), 1))
    power = 10.0 ** math.floor(math.log10(width / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * most >= width * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def _number(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.6g}"
