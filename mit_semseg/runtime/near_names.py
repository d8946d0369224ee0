"""For a name or a path that does not exist: the nearly equal one that does."""

import difflib
import os
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path


def nearest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Known names that are like a name, in any case of letters: at most ``count``, the nearest first."""
    by_lower = {each.lower(): each for each in known}
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=count)]


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"Did you mean NAME? "`` with the known name that is most like a name; "" if none is."""
    return "".join(f"Did you mean {near}? " for near in nearest(name, known))


def did_you_mean(path: str | PathLike[str]) -> str:
    """A sentence, with a space before it, that names an existing path nearly equal to a missing one.

    Nearly equal are other cases of letters, the composed and decomposed Unicode forms of a letter with an
    accent, spaces around a name, and backslashes for slashes, in any part of the path.

    Returns: "" if the path exists, or if there is no such path.
    """
    given = fspath(path)
    try:
        if not given or os.path.lexists(given):
            return ""
        meant, near = Path(given), _near(Path(given))
        if near is None and "\\" in given:
            meant = Path(given.replace("\\", "/"))
            near = _near(meant)
    except (OSError, ValueError):  # a folder that cannot be read, or a name that no file can have
        return ""
    if near is None:
        return ""
    # Two kinds of differences cannot be seen.
    differing = [pair for pair in zip(meant.parts, near.parts, strict=True) if pair[0] != pair[1]]
    if any(_composed(a).casefold() != _composed(b).casefold() for a, b in differing):
        return f" Did you mean {str(near)!r}, with other spaces?"
    if any(_composed(a) == _composed(b) for a, b in differing):
        form = "composed (NFC)" if unicodedata.is_normalized("NFC", str(near)) else "decomposed (NFD)"
        return f" Did you mean {near}, whose letters with accents are {form}? Copy its name, or rename it."
    return f" Did you mean {near}?"


def _near(path: Path) -> Path | None:
    """The existing path whose parts are nearly equal to those of a path."""
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if os.path.lexists(found / part):
            found /= part
            continue
        name = _names(found, found.stat().st_mtime_ns).get(_key(part))
        if name is None:
            return None
        found /= name
    return found


@lru_cache(maxsize=4)  # a list may name thousands of missing files in one folder
def _names(folder: Path, changed: int) -> dict[str, str]:
    """The names in a folder by their keys. ``changed`` is the time of its last change."""
    with os.scandir(folder) as entries:
        return {_key(name): name for name in sorted((entry.name for entry in entries), reverse=True)}


def _key(name: str) -> str:
    """The same for names that are nearly equal."""
    return _composed(_composed(name).casefold().strip())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
