"""The results of an evaluation: metrics.json, confusion.npy, report.html, and the table that is printed."""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data.classes import ClassTable
from ..metrics.bootstrap import mean_iou_interval
from ..metrics.confusion import METRICS
from ..metrics.threshold import STEPS, PrecisionRecall
from ..report import render
from ..runtime.files import sha256_of, write_together
from .tally import Tally

_EVERY = STEPS // 100  # thresholds of the curve in the results: 0.01, 0.02, ...


def write_results(
    folder: Path, tally: Tally, table: ClassTable, config: Mapping[str, Any], weights: Sequence[str | Path]
) -> Path:
    """Write the three files into ``folder``, all or none of them, and return the report's path.

    - ``metrics.json``, see :func:`metrics_of`;
    - ``confusion.npy``: (num_class, num_class) int64 pixels; row: true class, column: predicted class;
    - ``report.html``, a page that needs no other file.

    Args:
        config: the keys by section; the files record it.
        weights: the checkpoint files that were scored.

    Raises: UserError if a file cannot be written.
    """
    metrics = metrics_of(tally, table, config, weights)
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    counts = io.BytesIO()
    np.save(counts, tally.matrix.counts)
    page = render(metrics, tally.matrix.counts, table.colors, tally.examples, _as_yaml(config))
    report = folder / "report.html"
    write_together(
        {
            folder / "metrics.json": text.encode("utf-8", "backslashreplace"),
            folder / "confusion.npy": counts.getvalue(),
            report: page.encode("utf-8", "backslashreplace"),
        }
    )
    return report


def metrics_of(
    tally: Tally, table: ClassTable, config: Mapping[str, Any], weights: Sequence[str | Path]
) -> dict[str, Any]:
    """All scores and what was scored, ready for JSON. A score that does not exist is None.

    Keys:
        those of `METRICS`; with ``VAL.boundary_iou`` and ``VAL.calibration`` also ``boundary_iou`` and
            ``calibration_error``;
        ``mean_iou_interval``: see metrics/bootstrap.py;
        ``images``: their number;
        ``images_per_second``: of the images that this run scored;
        ``classes``: the scores of each class, in the order of the labels;
        ``calibration``: with ``VAL.calibration``, the bins, from the lowest probability up;
        ``threshold``: with ``VAL.threshold auto``, the ``class``, the ``used`` threshold, the ``best`` point,
            and the ``curve`` of such points: threshold, precision, recall and F1;
        ``weights``: path and SHA-256 of the files;
        ``config_sha256``: of the config as YAML;
        ``config``.
    """
    matrix = tally.matrix
    columns = {
        "name": table.names,
        "iou": matrix.iou().tolist(),
        "accuracy": matrix.recall().tolist(),
        "precision": matrix.precision().tolist(),
        "dice": matrix.dice().tolist(),
        "pixels": matrix.margins()[1].tolist(),
    }
    if tally.boundary is not None:
        columns["boundary_iou"] = tally.boundary.iou().tolist()
    metrics = {
        **overall_scores(tally),
        "mean_iou_interval": asdict(mean_iou_interval(tally.images)),
        "images": len(tally.images),
        "images_per_second": tally.timed / tally.seconds if tally.seconds and tally.timed else math.nan,
        "classes": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }
    if tally.calibration is not None:
        metrics["calibration"] = tally.calibration.bins()
    if tally.threshold is not None:
        best = tally.threshold.best()
        metrics["threshold"] = {
            "class": table.names[1],
            "used": config["INFERENCE"]["threshold"],
            "best": best and best._asdict(),
            "curve": [point._asdict() for point in tally.threshold.curve()[_EVERY - 1 :: _EVERY]],
        }
    metrics |= {
        "weights": [{"path": str(path), "sha256": sha256_of(path)} for path in weights],
        "config_sha256": hashlib.sha256(_as_yaml(config).encode()).hexdigest(),
        "config": config,
    }
    return {key: _for_json(value) for key, value in metrics.items()}


def summary(tally: Tally, table: ClassTable) -> str:
    """The scores as text: a line for each class, then the scores over all classes."""
    matrix, scores = tally.matrix, overall_scores(tally)
    boundary_title, boundary = "", [""] * len(table.names)
    if tally.boundary is not None:
        boundary_title = "  boundary"
        boundary = [f"    {_score(value)}" for value in tally.boundary.iou()]
    columns = matrix.iou(), boundary, matrix.recall(), matrix.margins()[1]
    width = max(len(name) for name in (*table.names, *scores))
    lines = [f"{'class':{width}}     IoU{boundary_title}  accuracy        pixels"]
    for name, iou, near_contours, recall, pixels in zip(table.names, *columns, strict=True):
        lines.append(f"{name:{width}}  {_score(iou)}{near_contours}    {_score(recall)}  {pixels:12,}")
    lines += ["", *(f"{name:{width}}  {_score(value)}" for name, value in scores.items())]
    if tally.threshold is not None:
        lines += ["", *_on_threshold(tally.threshold, table.names[1])]
    lines += [
        "",
        f"[Eval Summary]: {len(tally.images)} images",
        f"Mean IoU: {matrix.mean_iou():.4f}, Accuracy: {100 * matrix.pixel_accuracy():.2f}%",
    ]
    return "\n".join(lines) + "\n"


def overall_scores(tally: Tally) -> dict[str, float]:
    """The scores over all classes by name; NaN for one that does not exist."""
    scores = {name: metric(tally.matrix) for name, metric in METRICS.items()}
    if tally.boundary is not None:
        scores["boundary_iou"] = tally.boundary.mean_iou()
    if tally.calibration is not None:
        scores["calibration_error"] = tally.calibration.error()
    return scores


def _on_threshold(counts: PrecisionRecall, name: str) -> list[str]:
    best = counts.best()
    if best is None:
        return [f"No pixel is labelled {name}, so there is no best threshold for it."]
    lines = [f"threshold for {name}  precision  recall      F1"]
    for title, point in (("best", best), ("default", counts.curve()[STEPS // 2 - 1])):
        numbers = f"{_score(point.precision):>9}  {_score(point.recall)}  {_score(point.f1)}"
        lines.append(f"{f'{title}, {point.threshold:g}':{len(name) + 14}}  {numbers}")
    return [*lines, f"To use the best one: INFERENCE.threshold {best.threshold:g}"]


def _score(value: float) -> str:
    return "     -" if np.isnan(value) else f"{value:6.4f}"


def _as_yaml(config: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(config))  # YAML takes neither tuples nor subclasses of dict
    return yaml.safe_dump(plain)


def _for_json(value: Any) -> Any:
    """``value`` for JSON, which has no NaN, no infinity and no tuples."""
    if isinstance(value, dict):
        return {key: _for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
