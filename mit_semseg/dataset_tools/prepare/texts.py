"""Reading the annotation files of tools, with errors that name the file and the place."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...data.files import naming
from ...errors import UserError

_FAR = 1e9  # a coordinate beyond this is none
_EXCERPT = 40  # characters of a value in a message


class PlaceError(ValueError):
    """Why a part of an annotation file cannot be used: the end of a sentence that begins with its place."""


@contextmanager
def reported(problems: list[str], place: str) -> Iterator[None]:
    """Inside the block, an error becomes a problem of that place, and the rest of the file is still read."""
    try:
        yield
    except PlaceError as error:
        problems.append(f"{place} {error}")
    except (
        AttributeError,
        LookupError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:  # malformed
        problems.append(f"{place} cannot be read ({error!r})")


def load_json(path: Path) -> Any:
    """The content of a JSON file. Raises: UserError that names it."""
    with naming(path):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}). Export it again.") from None


def entries(content: Any, key: str) -> list[dict[str, Any]]:
    """The dicts in a list of a dict; [] if there is no such list. Raises: PlaceError for other content."""
    found = content.get(key) if isinstance(content, dict) else None
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise PlaceError(f'has "{key}" that is not a list of objects')
    return found


def ring_of(points: Any) -> np.ndarray:
    """Pairs of x and y as a ring, (N, 2), without a last point that repeats the first one.

    Raises: PlaceError for anything that is not at least three finite points.
    """
    try:
        ring = np.array(points, np.float64)
    except (TypeError, ValueError):
        raise PlaceError(f"has points that are not pairs of numbers ({excerpt(points)})") from None
    if ring.ndim != 2 or ring.shape[1] != 2:
        raise PlaceError(f"has points that are not pairs of numbers ({excerpt(points)})")
    if not (np.abs(ring) < _FAR).all():  # also NaN
        raise PlaceError("has a coordinate that is not finite, or far from any image")
    if len(ring) > 1 and (ring[0] == ring[-1]).all():
        ring = ring[:-1]
    if len(ring) < 3:
        raise PlaceError(f"is a polygon of {len(ring)} point{'' if len(ring) == 1 else 's'}; it needs three")
    return ring


def number(value: Any, what: str) -> float:
    """A finite number that may be a coordinate. Raises: PlaceError."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = np.nan
    if not abs(found) < _FAR:  # also NaN
        raise PlaceError(f"has {what} {excerpt(value)}, which is not a number")
    return found


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height), or None if a tool gives none. Raises: PlaceError for sizes that are none."""
    if not width and not height:
        return None
    size = number(width, "the width"), number(height, "the height")
    if min(size) < 1 or any(side != int(side) for side in size):
        raise PlaceError(f"has {excerpt(width)} x {excerpt(height)} pixels")
    return int(size[0]), int(size[1])


def excerpt(value: Any) -> str:
    """A value as it is written, cut off if it is long."""
    text = repr(value)
    return text if len(text) <= _EXCERPT else f"{text[: _EXCERPT - 4]} ..."
