"""The confusion matrix as a heat map: a table while it is small, a picture with labels when it is large."""

import io
import json
from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from .markup import data_uri, escape, percent

_MOST_IN_TABLE = 20
_MOST = 200  # classes; beyond it a cell would get too small to be hit, and the page large
_RIGHT, _WRONG = (37, 99, 235), (217, 72, 15)


def heat_map(names: Sequence[str], counts: NDArray[np.int64]) -> str:
    """Each class's pixels by what they were taken for, as shares of the class.

    Classes that occur neither as label nor as prediction are left out; of more than 200, those with the
    fewest pixels too.

    Args:
        counts: (num_class, num_class) pixels; row: true class, column: predicted class.
    """
    occurring = counts.sum(0) + counts.sum(1)
    shown = np.argsort(-occurring, kind="stable")[: min(_MOST, int((occurring > 0).sum()))]
    shown = np.sort(shown)
    if not len(shown):
        return "<p>There is nothing to show: no pixel is labelled.</p>"
    shares = (counts / np.maximum(counts.sum(1), 1)[:, None])[shown][:, shown]
    labels = [escape(names[k]) for k in shown]
    if len(shown) <= _MOST_IN_TABLE:
        drawing = _table(labels, shares)
    else:
        drawing = _picture(labels, shares, counts[shown][:, shown], counts.sum(1)[shown])
    left_out = len(counts) - len(shown)
    which = "1 class that occurs" if left_out == 1 else f"{left_out} classes that occur"
    note = f"<p><small>Left out: {which} nowhere, or least.</small></p>" if left_out else ""
    return drawing + note


def _opacity(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the colour of each cell. The root lets small shares be seen beside large ones."""
    return np.sqrt(shares)


def _table(labels: Sequence[str], shares: NDArray[np.float64]) -> str:
    head = "".join(f'<th scope="col"><span>{label}</span></th>' for label in labels)
    rows = []
    for i, label in enumerate(labels):
        cells = []
        for j, share in enumerate(shares[i].tolist()):
            if not share:
                cells.append("<td></td>")
                continue
            red, green, blue = _RIGHT if i == j else _WRONG
            opacity = float(_opacity(np.array(share)))
            strong = ' class="strong"' if opacity > 0.6 else ""
            digits = f"{100 * share:.0f}" if share >= 0.005 else "·"
            cells.append(
                f'<td{strong} style="background:rgba({red},{green},{blue},{opacity:.2f})" '
                f'title="{label} taken for {labels[j]}: {percent(share)}">{digits}</td>'
            )
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>')
    return (
        "<p>Rows: true class. Columns: predicted class. Numbers: % of the true class.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="cells">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _picture(
    labels: Sequence[str],
    shares: NDArray[np.float64],
    counts: NDArray[np.int64],
    labelled: NDArray[np.int64],
) -> str:
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    pixels[..., :3] = _WRONG
    np.einsum("iic->ic", pixels)[:, :3] = _RIGHT
    pixels[..., 3] = np.round(255 * _opacity(shares))
    file = io.BytesIO()
    PIL.Image.fromarray(pixels, "RGBA").save(file, format="PNG", optimize=True)
    items = "".join(f"<li><span>{label}</span></li>" for label in labels)
    # A row: its pixels in all, then column and pixels of each cell that is not empty. For what is pointed at.
    cells = [
        [int(total), [[int(j), int(row[j])] for j in np.nonzero(row)[0]]]
        for total, row in zip(labelled, counts, strict=True)
    ]
    return (
        '<p class="readout" id="readout" aria-live="polite">Rows: true class. Columns: predicted class.</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">'
        f'<div class="grid" style="--n:{len(labels)}">'
        f'<ol class="columns">{items}</ol><ol class="rows">{items}</ol>'
        f'<img id="heat" src="{data_uri(file.getvalue())}" alt="Heat map of the confusion matrix">'
        "</div></div>"
        f'<script type="application/json" id="cells">{json.dumps(cells, separators=(",", ":"))}</script>'
    )
