"""The Jinja environment that all pages share: templates, files to embed, and the format of numbers."""

import base64
from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

_GAP = "\N{NO-BREAK SPACE}"


def score(value: float | None) -> str:
    """A score as the commands print it; a dash if it is undefined."""
    return "–" if value is None else f"{value:.4f}"  # noqa: RUF001


def percent(share: float) -> str:
    """A share of 0 to 1 as a percentage of at most two digits. Pixels of one image rarely support more.

    >>> [percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0, 0.0004, 0.023, 0.31, 0.996, 1)]
    ['0 %', 'under 0.1 %', '2.3 %', '31 %', '99 %', '100 %']
    """
    if 0 < share < 0.001:
        return f"under 0.1{_GAP}%"
    if 0 < share < 0.0995:
        return f"{100 * share:.1f}{_GAP}%"
    # Rounded down near 1, so that 100 % means all of them.
    return f"{int(100 * share) if share > 0.99 else round(100 * share)}{_GAP}%"


def css_color(color: Sequence[int]) -> str:
    """An RGB color as CSS writes it.

    >>> css_color((200, 60, 40))
    '#c83c28'
    """
    red, green, blue = color
    return f"#{red:02x}{green:02x}{blue:02x}"


def data_uri(image: bytes) -> str:
    """The address of a PNG or JPEG image that is embedded in the page."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _thousands(number: int) -> str:
    return f"{number:,}"


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


ENVIRONMENT = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {"score": score, "percent": percent, "data_uri": data_uri, "thousands": _thousands}
ENVIRONMENT.globals["file"] = _file
ENVIRONMENT.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # the cells of a matrix are many
