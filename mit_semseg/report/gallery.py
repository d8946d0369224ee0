"""The worst and the best images, side by side with what should have come out."""

from collections.abc import Sequence
from typing import Any

from .examples import Example
from .markup import data_uri, escape, percent, score

_CAPTIONS = ("photo", "truth", "prediction", "errors")


def gallery(examples: Sequence[Example], classes: Sequence[dict[str, Any]]) -> str:
    """A card an image, with its own scores and its largest confusion in words."""
    return "".join(_card(example, classes) for example in examples) or "<p>There is no such image.</p>"


def _card(example: Example, classes: Sequence[dict[str, Any]]) -> str:
    name = escape(example.name)
    figures = "".join(
        f'<figure><img loading="lazy" src="{data_uri(picture)}" alt="{caption} of {name}">'
        f"<figcaption>{caption}</figcaption></figure>"
        for caption, picture in zip(_CAPTIONS, example.pictures, strict=True)
    )
    words = "Every labelled pixel is right."
    if example.confusion is not None:
        confusion = example.confusion
        words = (
            f"Most pixels lost: {escape(classes[confusion.truth]['name'])} taken for "
            f"{escape(classes[confusion.guess]['name'])}, {percent(confusion.share)} of it."
        )
    return (
        f'<article class="card"><h4>{name}</h4><p>Mean IoU {score(example.mean_iou)}, '
        f"{percent(example.pixel_accuracy)} of the pixels right. {words}</p>"
        f'<div class="figures">{figures}</div></article>\n'
    )
