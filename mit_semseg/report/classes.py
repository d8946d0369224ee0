"""The scores of each class, as a table with bars, and the legend of their colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .examples import largest_confusions
from .markup import escape, percent, score, swatch

_SORTABLE = ("iou", "boundary_iou", "accuracy", "precision", "pixels")


def class_table(
    classes: Sequence[dict[str, Any]], counts: NDArray[np.int64], colors: NDArray[np.uint8]
) -> str:
    """A row a class, in the order of the labels.

    Args:
        classes: of metrics.json.
        counts: (num_class, num_class) pixels; row: true class, column: predicted class.
        colors: (num_class, 3) RGB.
    """
    rows = [_row(k, entry, classes, counts, colors) for k, entry in enumerate(classes)]
    boundary = '<th scope="col">Boundary IoU</th>' if "boundary_iou" in classes[0] else ""
    return f"""<table class="classes" id="classes">
<thead><tr><th scope="col">Class</th><th scope="col">IoU</th>{boundary}<th scope="col">Accuracy</th>
<th scope="col">Precision</th><th scope="col">Pixels</th><th scope="col">Mostly taken for</th></tr></thead>
<tbody>
{"".join(rows)}</tbody></table>"""


def _row(
    k: int,
    entry: dict[str, Any],
    classes: Sequence[dict[str, Any]],
    counts: NDArray[np.int64],
    colors: NDArray[np.uint8],
) -> str:
    values = "".join(f' data-{key}="{entry[key]}"' for key in _SORTABLE if entry.get(key) is not None)
    boundary = ""
    if "boundary_iou" in entry:
        boundary = f'<td data-title="boundary">{score(entry["boundary_iou"])}</td>'
    iou = entry["iou"]
    bar = "" if iou is None else f'<span class="bar"><b style="width:{100 * iou:.2f}%"></b></span>'
    return (
        f'<tr data-label="{k}"{values}><th scope="row">{swatch(colors[k])}{escape(entry["name"])}</th>'
        f'<td class="iou">{bar}<span class="number">{score(iou)}</span></td>{boundary}'
        f'<td data-title="accuracy">{score(entry["accuracy"])}</td>'
        f'<td data-title="precision">{score(entry["precision"])}</td>'
        f'<td data-title="pixels">{entry["pixels"]:,}</td>'
        f'<td class="taken">{_taken_for(k, classes, counts)}</td></tr>\n'
    )


def _taken_for(k: int, classes: Sequence[dict[str, Any]], counts: NDArray[np.int64]) -> str:
    row = np.zeros_like(counts[k])
    row[:] = counts[k]
    row[k] = 0
    guess = int(row.argmax())
    if not row[guess]:
        return ""
    return f"{escape(classes[guess]['name'])} ({percent(row[guess] / counts[k].sum())})"


def legend(classes: Sequence[dict[str, Any]], colors: NDArray[np.uint8]) -> str:
    """The colour of each class in the pictures."""
    entries = [f"<li>{swatch(colors[k])}{escape(entry['name'])}</li>" for k, entry in enumerate(classes)]
    return f'<ul class="legend">{"".join(entries)}<li>{swatch((0, 0, 0))}<em>unlabelled</em></li></ul>'


def confusion_words(classes: Sequence[dict[str, Any]], counts: NDArray[np.int64], *, by_share: bool) -> str:
    """The ten largest confusions as sentences, by their share of the class or by their pixels."""
    found = largest_confusions(counts, 10, by_share=by_share, least_share=1e-4 if by_share else 0)
    if not found:
        return "<p>None: no labelled pixel was taken for another class.</p>"
    lines = [
        f"<li><b>{escape(classes[c.truth]['name'])}</b> taken for <b>{escape(classes[c.guess]['name'])}</b>: "
        f"{percent(c.share)} of its pixels <small>({c.pixels:,})</small></li>"
        for c in found
    ]
    return f"<ol>{''.join(lines)}</ol>"
