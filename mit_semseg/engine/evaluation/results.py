"""The files of an evaluation: metrics.json, confusion.npy, report.html."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from ...atomic import replacing
from ...confidence import mean_iou_interval
from ...data.classes import ClassTable
from ...metrics import METRICS
from ...report import render
from .settings_of import sha256_of
from .tally import Tally


def write_results(
    folder: Path, tally: Tally, table: ClassTable, cfg: CfgNode, weights: Sequence[str | Path]
) -> Path:
    """Write the three files into ``folder``, each complete or not at all, and return the report's path.

    - ``metrics.json``, see :func:`metrics_of`;
    - ``confusion.npy``: (num_class, num_class) int64 pixels; row: true class, column: predicted class;
    - ``report.html``, a page that needs no other file.

    Args:
        weights: the checkpoint files that were scored.

    Raises: UserError if the disk refuses.
    """
    cfg = _as_if_in_one_go(cfg)
    metrics = metrics_of(tally, table, cfg, weights)
    with replacing(folder / "metrics.json") as file:
        text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        file.write(text.encode("utf-8", "backslashreplace"))
    with replacing(folder / "confusion.npy") as file:
        np.save(file, tally.matrix.counts)
    report = folder / "report.html"
    with replacing(report) as file:
        page = render(metrics, tally.matrix.counts, table.colors, tally.examples, cfg.dump())
        file.write(page.encode("utf-8", "backslashreplace"))
    return report


def _as_if_in_one_go(cfg: CfgNode) -> CfgNode:
    """``cfg`` without ``VAL.resume``: what comes out is the same, and so are the files."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.VAL.resume = False
    cfg.freeze()
    return cfg


def metrics_of(
    tally: Tally, table: ClassTable, cfg: CfgNode, weights: Sequence[str | Path]
) -> dict[str, Any]:
    """All scores and what they are of, ready for JSON: a score that does not exist is None.

    Keys: those of `METRICS`; ``mean_iou_interval``, see confidence.py; ``images``; ``images_per_second``, of
    those that this run scored; ``classes``, in the order of their labels; ``weights`` and ``config_sha256``,
    SHA-256 in hex, the config's of its YAML text; ``config``. Where they were asked for: ``boundary_iou``,
    here and of each class; ``calibration_error`` and ``calibration``, its bins from the lowest probability
    up.
    """
    matrix, images = tally.matrix, len(tally.images)
    columns = {
        "name": table.names,
        "iou": matrix.iou().tolist(),
        "accuracy": matrix.recall().tolist(),
        "precision": matrix.precision().tolist(),
        "dice": matrix.dice().tolist(),
        "pixels": matrix.margins()[1].tolist(),
    }
    scores = {name: metric(matrix) for name, metric in METRICS.items()}
    bins = {}
    if tally.boundary is not None:
        columns["boundary_iou"] = tally.boundary.iou().tolist()
        scores["boundary_iou"] = tally.boundary.mean_iou()
    if tally.calibration is not None:
        scores["calibration_error"] = tally.calibration.error()
        bins["calibration"] = tally.calibration.bins()
    known = _known(
        {
            **scores,
            "mean_iou_interval": asdict(mean_iou_interval(tally.images)),
            "images": images,
            "images_per_second": tally.timed / tally.seconds if tally.seconds and tally.timed else math.nan,
            "classes": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
            **bins,
            "weights": [{"path": str(path), "sha256": sha256_of(path)} for path in weights],
            "config_sha256": hashlib.sha256(cfg.dump().encode()).hexdigest(),
            "config": cfg,
        }
    )
    assert isinstance(known, dict)
    return known


def _known(value: Any) -> Any:
    """``value`` for JSON, which has neither NaN and infinity nor tuples."""
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
