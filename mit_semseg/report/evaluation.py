"""The report on an evaluation: computes the values that templates/evaluation.html lays out."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from .examples import Confusion, Examples, largest_confusions
from .page import ENVIRONMENT, css_color

_LISTED = 10  # confusions, by share and by pixels
_LEAST_SHARE = 1e-4  # of all labelled pixels; smaller classes are not listed by share, as the template says
_MOST_IN_TABLE = 20  # classes; with more, the matrix is a picture
_MOST_IN_MATRIX = 200  # classes; with more, a cell would be too small to point at, and the page too large
_RIGHT, _WRONG = (37, 99, 235), (217, 72, 15)
_SIDE = 240  # of the reliability diagram, in units of the drawing


def render(
    metrics: dict[str, Any],
    counts: NDArray[np.int64],
    colors: NDArray[np.uint8],
    examples: Examples,
    config: str,
) -> str:
    """The report as HTML.

    Args:
        metrics: the content of metrics.json.
        counts: (num_class, num_class) pixels; row: true class, column: predicted class.
        colors: (num_class, 3) RGB.
        config: the config as YAML.
    """
    classes = metrics["classes"]
    return ENVIRONMENT.get_template("evaluation.html").render(
        metrics=metrics,
        classes=[
            {**entry, "color": css_color(color), "confusion": confusion}
            for entry, color, confusion in zip(classes, colors, _of_each_class(counts), strict=True)
        ],
        by_share=largest_confusions(counts, _LISTED, by_share=True, least_share=_LEAST_SHARE),
        by_pixels=largest_confusions(counts, _LISTED),
        matrix=_heat_map([entry["name"] for entry in classes], counts),
        reliability=_reliability(metrics["calibration"]) if "calibration" in metrics else None,
        operating=_operating(metrics["threshold"]) if "threshold" in metrics else None,
        worst=examples.worst(),
        best=examples.best(),
        config=config,
    )


def _of_each_class(counts: NDArray[np.int64]) -> list[Confusion | None]:
    """The largest confusion of each class; None for a class without one."""
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    confusions = [
        Confusion(truth, int(row.argmax()), int(row.max()), int(counts[truth].sum()))
        for truth, row in enumerate(errors)
    ]
    return [confusion if confusion.pixels else None for confusion in confusions]


class _Cell(NamedTuple):
    share: float  # of the true class
    color: str
    dark: bool  # so that its text has to be light


@dataclass(frozen=True)
class _HeatMap:
    """The confusion matrix. Small ones have a ``table``, large ones a ``picture`` with ``pixels``.

    Attributes:
        names: of the classes shown.
        hidden: how many classes are not shown.
        table: a row for each true class; None for an empty cell.
        picture: PNG with one pixel for each cell.
        pixels: for each true class, its pixels, then the column and pixels of each cell that is not empty.
    """

    names: list[str]
    hidden: int
    table: list[list[_Cell | None]] | None = None
    picture: bytes | None = None
    pixels: list[tuple[int, list[tuple[int, int]]]] | None = None


def _heat_map(names: Sequence[str], counts: NDArray[np.int64]) -> _HeatMap:
    """The pixels of each class by the class predicted for them, as shares of the class.

    Classes that are neither in a label nor in a prediction are hidden. So are those with the fewest pixels if
    there are more than 200.
    """
    occurring = counts.sum(0) + counts.sum(1)
    most = min(_MOST_IN_MATRIX, np.count_nonzero(occurring))
    shown = np.sort(np.argsort(-occurring, kind="stable")[:most])
    shown_names, hidden = [names[k] for k in shown], len(counts) - len(shown)
    labelled, cells = counts.sum(1)[shown], counts[shown][:, shown]
    shares = cells / np.maximum(labelled, 1)[:, None]
    opacity = np.sqrt(shares)  # the root makes small shares visible beside large ones
    if len(shown) <= _MOST_IN_TABLE:
        return _HeatMap(shown_names, hidden, table=_table(shares, opacity))
    pixels = [
        (int(total), [(int(j), int(row[j])) for j in np.flatnonzero(row)])
        for total, row in zip(labelled, cells, strict=True)
    ]
    return _HeatMap(shown_names, hidden, picture=_picture(opacity), pixels=pixels)


def _table(shares: NDArray[np.float64], opacity: NDArray[np.float64]) -> list[list[_Cell | None]]:
    def cell(i: int, j: int) -> _Cell | None:
        if not shares[i, j]:
            return None
        red, green, blue = _RIGHT if i == j else _WRONG
        color = f"rgba({red},{green},{blue},{opacity[i, j]:.2f})"
        return _Cell(float(shares[i, j]), color, dark=bool(opacity[i, j] > 0.6))

    return [[cell(i, j) for j in range(len(shares))] for i in range(len(shares))]


def _picture(opacity: NDArray[np.float64]) -> bytes:
    pixels = np.zeros((*opacity.shape, 4), np.uint8)
    pixels[..., :3] = _WRONG
    pixels[np.diag_indices(len(pixels))] = (*_RIGHT, 0)
    pixels[..., 3] = np.round(255 * opacity)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels, "RGBA").save(file, format="PNG", optimize=True)
    return file.getvalue()


class _Bar(NamedTuple):
    """A bin in the reliability diagram, in units of the drawing from its lower left corner."""

    left: float
    width: float
    accuracy: float
    confidence: float
    opacity: float


@dataclass(frozen=True)
class _Reliability:
    """How far probabilities can be trusted.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, figure 1.

    Attributes:
        bins: those of metrics.json that are not empty.
        bars: one for each of them.
        confidence, accuracy: mean over all labelled pixels; 0 if there are none.
    """

    side: int
    bins: list[dict[str, Any]]
    bars: list[_Bar]
    confidence: float
    accuracy: float


def _reliability(bins: Sequence[dict[str, Any]]) -> _Reliability:
    filled = [part for part in bins if part["pixels"]]
    pixels = sum(part["pixels"] for part in filled)
    most = max((part["pixels"] for part in filled), default=0)
    confidence, accuracy = (
        sum(part[key] * part["pixels"] for part in filled) / max(pixels, 1)
        for key in ("confidence", "accuracy")
    )
    bars = [
        _Bar(
            left=_SIDE * part["low"],
            width=_SIDE * (part["high"] - part["low"]),
            accuracy=_SIDE * part["accuracy"],
            confidence=_SIDE * part["confidence"],
            opacity=0.25 + 0.75 * (part["pixels"] / most) ** 0.5,
        )
        for part in filled
    ]
    return _Reliability(_SIDE, filled, bars, confidence, accuracy)


@dataclass(frozen=True)
class _Operating:
    """The curves over the threshold, drawn in a square.

    Attributes:
        side: of the square.
        lines: points of an SVG polyline for "precision", "recall" and "f1"; in several parts where a value
            does not exist.
    """

    side: int
    lines: dict[str, list[str]]


def _operating(threshold: dict[str, Any]) -> _Operating:
    lines: dict[str, list[str]] = {}
    for name in ("precision", "recall", "f1"):
        parts: list[list[str]] = [[]]
        for point in threshold["curve"]:
            if point[name] is None:
                parts.append([])
                continue
            parts[-1].append(f"{_SIDE * point['threshold']:.2f},{_SIDE * (1 - point[name]):.2f}")
        lines[name] = [" ".join(part) for part in parts if part]
    return _Operating(_SIDE, lines)
