"""The page that shows what came out for each image; it opens offline, as the report does."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .markup import data_uri, escape, head, percent, swatch
from .thumbnails import thumbnails

_STYLE = """
.results { display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 8px 24px; }
.results .figures { grid-template-columns: 1fr 1fr; }
.results h2, .results .legend { font-size: .95rem; }
.results h2 { margin: 0 0 6px; }
"""
_CARD = '<article class="card" data-input="'
_CARD_END = "</article>\n"


def card(
    name: str,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    names: Sequence[str],
    colors: NDArray[np.uint8],
    shares: Sequence[tuple[int, float]],
    links: Sequence[tuple[str, str]],
) -> str:
    """One image's part of the page, on one line.

    Args:
        name: of the image; `card_key` gives what it is known by.
        image: (H, W, 3) RGB.
        labels: (H, W) classes.
        names, colors: of all classes.
        shares: (class, share of the pixels), the largest first.
        links: (address, text) of its files.
    """
    pictures = thumbnails(image, labels, labels, colors)
    figures = "".join(
        f'<figure><img loading="lazy" src="{data_uri(picture)}" alt="{what} of {_line(name)}"></figure>'
        for what, picture in (("photo", pictures.photo), ("classes", pictures.prediction))
    )
    entries = "".join(
        f"<li>{swatch(colors[k])}{escape(names[k])} <small>{percent(share)}</small></li>"
        for k, share in shares
    )
    files = ", ".join(f'<a href="{escape(address)}">{_line(text)}</a>' for address, text in links)
    return (
        f'{_CARD}{card_key(name)}"><h2>{_line(name)}</h2><div class="figures">{figures}</div>'
        f'<ul class="legend">{entries}</ul>{f"<p>{files}</p>" if files else ""}{_CARD_END}'
    )


def card_key(name: str) -> str:
    """What a card is known by: the name of its image, as it stands in the page."""
    return _line(name)


def key_of(line: bytes) -> str | None:
    """The key of a line of a page that is a card; None for all others."""
    start, end = _CARD.encode(), _CARD_END.encode()
    if not (line.startswith(start) and line.endswith(end)):
        return None
    return line[len(start) :].split(b'"', 1)[0].decode("utf-8", "replace")


def page(cards: Iterable[bytes], count: int, problems: Sequence[str]) -> Iterator[bytes]:
    """The pieces of the page, one behind the other, so that it need not fit into memory.

    Args:
        cards: lines as `card` makes them, encoded.
        count: how many there are.
        problems: what is wrong with the images that are missing.
    """
    counts = f"{count:,} segmented" + (f", {len(problems):,} with a problem" if problems else "")
    yield encoded(
        f"""{head("Predictions", style=_STYLE)}<header><h1>Predictions</h1><p>{counts}</p></header>
<section class="results">
"""
    )
    yield from cards
    yield encoded("</section>\n")
    if problems:
        items = "".join(f"<li>{_line(problem)}</li>\n" for problem in problems)
        yield encoded(f"<section><h2>Problems</h2>\n<ul>\n{items}</ul></section>\n")
    yield encoded("</main>\n</body>\n</html>\n")


def encoded(text: str) -> bytes:
    """UTF-8; bytes of file names that are none stay visible."""
    return text.encode("utf-8", "backslashreplace")


def _line(text: str) -> str:
    return encoded(escape(text)).decode().replace("\r", "&#13;").replace("\n", "&#10;")
