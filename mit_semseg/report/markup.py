"""Pieces of HTML."""

import base64
import html
from collections.abc import Sequence
from importlib import resources

# A page asks nothing of anyone: the browser refuses whatever is not part of it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SCRIPTS = "; script-src 'unsafe-inline'"

GAP = "\N{NO-BREAK SPACE}"


def escape(text: object) -> str:
    """Text that stands for itself, in an element or in a quoted attribute."""
    return html.escape(str(text), quote=True)


def score(value: float | None) -> str:
    """A score as the command prints it; a dash for one that does not exist."""
    return "–" if value is None else f"{value:.4f}"  # noqa: RUF001


def percent(share: float) -> str:
    """A share of 0 to 1 in words of at most two digits, so that it is no more precise than it can be.

    >>> [percent(share).replace(GAP, " ") for share in (0, 0.0004, 0.023, 0.31, 0.996, 1)]
    ['0 %', 'under 0.1 %', '2.3 %', '31 %', '99 %', '100 %']
    """
    if 0 < share < 0.001:
        return f"under 0.1{GAP}%"
    # Rounded down at the top: what is called 100 % has no exception.
    digits = (
        f"{100 * share:.1f}"
        if 0 < share < 0.0995
        else f"{int(100 * share) if share > 0.99 else round(100 * share)}"
    )
    return f"{digits}{GAP}%"


def swatch(color: Sequence[int]) -> str:
    """A small square in an RGB colour."""
    red, green, blue = color
    return f'<i class="swatch" style="background:#{red:02x}{green:02x}{blue:02x}"></i>'


def data_uri(content: bytes) -> str:
    """The address of an image that is part of the page."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def head(title: str, *, style: str = "", scripts: bool = False) -> str:
    """A page from its first line to the beginning of its content, with the styles that all pages share.

    Args:
        title: as HTML.
        style: more of them.
        scripts: whether the page has scripts of its own.
    """
    shared = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}{_SCRIPTS if scripts else ""}">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{shared}{style}</style>
</head>
<body>
<main>
"""
