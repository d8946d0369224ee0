"""The scores as a text, for a person."""

import numpy as np

from ...data.classes import ClassTable
from ...metrics import METRICS
from .tally import Tally


def summary(tally: Tally, table: ClassTable) -> str:
    """The scores as a text: a line a class, then the metrics over all."""
    matrix, boundary = tally.matrix, tally.boundary
    iou, recall, pixels = matrix.iou(), matrix.recall(), matrix.margins()[1]
    metrics = {name: metric(matrix) for name, metric in METRICS.items()}
    head, near = "", [""] * len(table.names)
    if boundary is not None:
        head, near = "  boundary", [f"    {_score(value)}" for value in boundary.iou()]
        metrics["boundary_iou"] = boundary.mean_iou()
    if tally.calibration is not None:
        metrics["calibration_error"] = tally.calibration.error()
    width = max(len(name) for name in (*table.names, *metrics))
    lines = [f"{'class':{width}}     IoU{head}  accuracy        pixels"]
    for name, a, b, c, count in zip(table.names, iou, near, recall, pixels, strict=True):
        lines.append(f"{name:{width}}  {_score(a)}{b}    {_score(c)}  {count:12,}")
    lines += ["", *(f"{name:{width}}  {_score(value)}" for name, value in metrics.items())]
    lines += [
        "",
        f"[Eval Summary]: {len(tally.images)} images",
        f"Mean IoU: {matrix.mean_iou():.4f}, Accuracy: {100 * matrix.pixel_accuracy():.2f}%",
    ]
    return "\n".join(lines) + "\n"


def _score(value: float) -> str:
    return "     -" if np.isnan(value) else f"{value:6.4f}"
