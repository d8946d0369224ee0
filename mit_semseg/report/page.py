"""The page as a whole."""

from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classes import class_table, confusion_words, legend
from .examples import Examples
from .gallery import gallery
from .heatmap import heat_map
from .markup import escape, head, percent, score
from .reliability import calibration_section


def render(
    metrics: dict[str, Any],
    counts: NDArray[np.int64],
    colors: NDArray[np.uint8],
    examples: Examples,
    config: str,
) -> str:
    """The report as HTML.

    Args:
        metrics: what metrics.json holds.
        counts: (num_class, num_class) pixels; row: true class, column: predicted class.
        colors: (num_class, 3) RGB.
        config: the config as YAML.
    """
    classes = metrics["classes"]
    title = f"Evaluation of {escape(metrics['config']['DIR'])}"
    return f"""{head(title, scripts=True)}<header>
<h1>{title}</h1>
<p>{_subject(metrics)}</p>
</header>
<section id="summary">
<h2>Summary</h2>
{_tiles(metrics)}
</section>
<section>
<h2>Classes</h2>
<div id="sort"></div>
{class_table(classes, counts, colors)}
</section>
<section>
<h2>Confusions</h2>
<div class="columns-2">
<div><h3>Largest share of a class</h3>{confusion_words(classes, counts, by_share=True)}
<p><small>Among the classes with at least 0.01{" "}% of the labelled pixels.</small></p></div>
<div><h3>Most pixels</h3>{confusion_words(classes, counts, by_share=False)}</div>
</div>
<h3>Matrix</h3>
{heat_map([entry["name"] for entry in classes], counts)}
</section>
{calibration_section(metrics)}<section>
<h2>Images</h2>
<p>Ordered by their own mean IoU. Errors are red; unlabelled pixels, which do not count, are dark.</p>
<details{" open" if len(classes) <= 20 else ""}><summary>Colours of the classes</summary>
{legend(classes, colors)}</details>
<h3>Worst</h3>
{gallery(examples.worst(), classes)}
<h3>Best</h3>
{gallery(examples.best(), classes)}
</section>
<section>
<h2>Model and config</h2>
{_weights(metrics)}
<details><summary>Config</summary><pre>{escape(config)}</pre></details>
</section>
</main>
<script>
{_file("script.js")}</script>
</body>
</html>
"""


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _subject(metrics: dict[str, Any]) -> str:
    model, data = metrics["config"]["MODEL"], metrics["config"]["DATASET"]
    sizes = ", ".join(str(size) for size in data["imgSizes"])
    return (
        f"{escape(model['arch_encoder'])} with {escape(model['arch_decoder'])}, short edges {escape(sizes)}, "
        f"on {metrics['images']:,} images of {escape(data['list_val'])}"
    )


def _tiles(metrics: dict[str, Any]) -> str:
    interval, speed = metrics["mean_iou_interval"], metrics["images_per_second"]
    around = ""
    if interval["low"] is not None:
        around = (
            f"{percent(interval['level'])} interval {score(interval['low'])} to {score(interval['high'])}, "
            "over images"
        )
    tiles = [
        ("Mean IoU", score(metrics["mean_iou"]), around),
        ("Pixel accuracy", score(metrics["pixel_accuracy"]), "share of the labelled pixels that are right"),
        ("Mean accuracy", score(metrics["mean_accuracy"]), "over classes"),
        ("Frequency-weighted IoU", score(metrics["frequency_weighted_iou"]), "each class by its pixels"),
        ("Dice", score(metrics["dice"]), "mean over classes, also known as F1"),
        ("Mean IoU of all", score(metrics["mean_iou_all"]), "a class that does not occur counts 0"),
        ("Images", f"{metrics['images']:,}", "" if speed is None else f"{speed:.1f} a second"),
    ]
    if "boundary_iou" in metrics:
        tiles.insert(5, ("Boundary IoU", score(metrics["boundary_iou"]), "of the pixels near contours"))
    if "calibration_error" in metrics:
        note = "mean gap between probability and accuracy"
        tiles.insert(-1, ("Calibration error", score(metrics["calibration_error"]), note))
    entries = [
        f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in tiles
    ]
    return f'<dl class="tiles">{"".join(entries)}</dl>'


def _weights(metrics: dict[str, Any]) -> str:
    entries = [
        f"<li><code>{escape(file['path'])}</code>"
        f"<br><small>SHA-256 <code>{file['sha256']}</code></small></li>"
        for file in metrics["weights"]
    ]
    return f'<ul class="files">{"".join(entries)}</ul>'
