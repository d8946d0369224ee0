"""Whether probabilities can be taken at their word: the reliability diagram and its numbers."""

from collections.abc import Sequence
from typing import Any

from .markup import percent, score

_SIDE = 240  # of the square, in units of the drawing
_MARGIN = 40


def calibration_section(metrics: dict[str, Any]) -> str:
    """The expected calibration error with its diagram; "" if it was not asked for.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, figure 1.
    """
    if "calibration" not in metrics:
        return ""
    bins = metrics["calibration"]
    return f"""<section>
<h2>Calibration</h2>
<p>Expected calibration error {score(metrics["calibration_error"])}. {_averages(bins)}</p>
<div class="reliability">
{_diagram(bins)}
{_table(bins)}
</div>
</section>
"""


def _filled(bins: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for part in bins if part["pixels"]]


def _averages(bins: Sequence[dict[str, Any]]) -> str:
    pixels = sum(part["pixels"] for part in bins)
    if not pixels:
        return "No pixel is labelled."
    sure, right = (
        sum(part[key] * part["pixels"] for part in _filled(bins)) / pixels
        for key in ("confidence", "accuracy")
    )
    return (
        f"The predicted class has a probability of {percent(sure)} on average; "
        f"{percent(right)} of the pixels are right."
    )


def _diagram(bins: Sequence[dict[str, Any]]) -> str:
    most = max((part["pixels"] for part in bins), default=0)
    bars = []
    for part in _filled(bins):
        left, width = _SIDE * part["low"], _SIDE * (part["high"] - part["low"])
        height = _SIDE * part["accuracy"]
        opacity = 0.25 + 0.75 * (part["pixels"] / most) ** 0.5
        bars.append(
            f'<rect class="right" x="{left:.2f}" y="{_SIDE - height:.2f}" width="{width:.2f}" '
            f'height="{height:.2f}" opacity="{opacity:.2f}"/>'
            f'<line class="sure" x1="{left:.2f}" x2="{left + width:.2f}" '
            f'y1="{_SIDE * (1 - part["confidence"]):.2f}" y2="{_SIDE * (1 - part["confidence"]):.2f}"/>'
        )
    ticks = "".join(
        f'<text x="{_SIDE * k / 2}" y="{_SIDE + 16}" text-anchor="middle">{50 * k}</text>'
        f'<text x="-6" y="{_SIDE * (1 - k / 2) + 4}" text-anchor="end">{50 * k}</text>'
        for k in range(3)
    )
    whole = _SIDE + _MARGIN + 12
    return (
        f'<figure><svg viewBox="{-_MARGIN} -8 {whole} {whole}" role="img" '
        'aria-label="Reliability diagram; its numbers stand beside it">'
        f'<rect class="frame" width="{_SIDE}" height="{_SIDE}"/>{"".join(bars)}'
        f'<line class="ideal" x1="0" y1="{_SIDE}" x2="{_SIDE}" y2="0"/>{ticks}'
        f'<text x="{_SIDE / 2}" y="{_SIDE + 32}" text-anchor="middle">probability, %</text></svg>'
        "<figcaption>Bars: % of the pixels that are right, paler where they are few. Red: their mean "
        "probability; above its bar, the model is too sure.</figcaption></figure>"
    )


def _table(bins: Sequence[dict[str, Any]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{100 * part["low"]:.0f} to {100 * part["high"]:.0f}</th>'
        f"<td>{score(part['confidence'])}</td><td>{score(part['accuracy'])}</td><td>{part['pixels']:,}</td></tr>"
        for part in _filled(bins)
    )
    return (
        '<table class="bins"><thead><tr><th scope="col">Probability, %</th><th scope="col">Mean</th>'
        f'<th scope="col">Right</th><th scope="col">Pixels</th></tr></thead><tbody>{rows}</tbody></table>'
    )
