"""The page that shows the prediction of each image.

There may be more cards than fit into memory. So each card is kept on disk as one line that is found by its
key, and the page is written card by card.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from .page import ENVIRONMENT, css_color
from .thumbnails import gray_picture, thumbnails

_START = b'<article class="card" data-input="'
_DOUBT = re.compile(rb'[^>]* data-uncertainty="([0-9.]+)">')
_END = b"</article>\n"


def card(
    name: str,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    names: Sequence[str],
    colors: NDArray[np.uint8],
    shares: Sequence[tuple[int, float]],
    links: Sequence[tuple[str, str]],
    doubt: NDArray[np.floating] | None = None,
) -> bytes:
    """One image's part of the page, as one line.

    Args:
        name: of the image. `key_of` returns its `card_key` for this line.
        image: (H, W, 3) RGB.
        labels: (H, W) classes.
        names, colors: of all classes.
        shares: (class, share of the pixels), the largest first.
        links: (address, text) of its files.
        doubt: (H, W) of 0 to 1, how unsure the model is of each pixel. It is shown as a third picture, and
            its mean is the image's uncertainty.
    """
    text = ENVIRONMENT.get_template("prediction_card.html").render(
        key=card_key(name),
        name=name,
        pictures=thumbnails(image, labels, labels, colors),
        classes=[{"name": names[k], "color": css_color(colors[k]), "share": share} for k, share in shares],
        links=links,
        doubt=None if doubt is None else gray_picture(doubt),
        uncertainty=None if doubt is None else float(doubt.mean()),
    )
    # To a browser, a line break in a name is a space too.
    return _encoded(text.replace("\n", " ") + "\n")


def card_key(name: str) -> str:
    """The key of an image's card: its name, percent-encoded, since a name may contain any character."""
    return quote(name, errors="backslashreplace")


def key_of(line: bytes) -> str | None:
    """The key of a line of the page; None if the line is not a whole card."""
    if not (line.startswith(_START) and line.endswith(_END)):
        return None
    return line.removeprefix(_START).split(b'"', 1)[0].decode("utf-8", "replace")


def doubt_of(line: bytes) -> float | None:
    """The uncertainty of the image of a card; None if it was not measured."""
    match = _DOUBT.match(line)
    return float(match[1]) if match else None


def page(cards: Iterable[bytes], count: int, problems: Sequence[str], uncertain: int = 0) -> Iterator[bytes]:
    """The page in pieces. A card is read when its piece is due, so the page need not fit into memory.

    Args:
        cards: lines that `card` returned.
        count: how many cards there are.
        problems: a sentence for each image that could not be segmented.
        uncertain: how many cards show the images to correct; they come first. 0: the cards are not ranked.
    """
    texts = (line.decode("utf-8", "replace").removesuffix("\n") for line in cards)
    template = ENVIRONMENT.get_template("predictions.html")
    return map(_encoded, template.generate(cards=texts, count=count, problems=problems, uncertain=uncertain))


def _encoded(text: str) -> bytes:
    """UTF-8. Bytes of a file name that are not UTF-8 appear as escapes."""
    return text.encode("utf-8", "backslashreplace")
