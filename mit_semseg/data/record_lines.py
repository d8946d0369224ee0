"""The lines of a list of images and labels (.odgt: one JSON object per line), and the record of each."""

import json
import os
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..runtime.paths import is_possible
from ..runtime.progress import ProgressCounter
from .files import missing
from .list_forms import other_form

_LONGEST_SIDE = 2**31 - 1
_WINDOW = ("left", "top", "width", "height")  # the keys that a window of a scene has


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a list. Optional keys that the line lacks are '' or 0. Sizes are in pixels.

    With ``left`` and ``top``, it is a window of a scene and its label, of size ``width`` and
    ``height``. Without them, both are -1.
    """

    fpath_img: str
    fpath_segm: str = ""
    width: int = 0
    height: int = 0
    left: int = -1
    top: int = -1

    @property
    def is_window(self) -> bool:
        return self.left >= 0


class UnusableError(Exception):
    """The problem with an entry, as the end of a sentence that begins with its line."""


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The non-blank lines of a file, with their numbers from 1."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise UserError(
            f"{missing(path)} It should hold one JSON object per line. Write it with: mit-semseg data prepare"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def lines_with_bar(path: Path) -> Iterator[tuple[int, bytes]]:
    """`lines`, with a bar or log lines that show how much of the file has been read."""
    megabytes = path.stat().st_size // 10**6
    read = shown = 0
    with ProgressCounter(megabytes, "MB", what=f"Reading {path.name}") as counter:
        for number, line in lines(path):
            read += len(line)
            if read // 10**6 > shown:
                counter.add(read // 10**6 - shown)
                shown = read // 10**6
            yield number, line


def refuse_other_form(path: Path) -> None:
    """Raises: UserError if a file whose first line is unusable is of a known other form."""
    if form := other_form(path):
        raise UserError(f"{path} {form}") from None


def to_record(entry: Any, required: Sequence[str], optional: Sequence[str], inside_root: bool) -> Record:
    """The record of a line, a mapping or a path; arguments as for `read_records`.

    Raises: UnusableError.
    """
    if isinstance(entry, bytes):
        entry = parse(entry)
    elif isinstance(entry, str | PathLike):
        entry = {"fpath_img": fspath(entry)}
    if not isinstance(entry, Mapping):
        raise UnusableError(f"is not a JSON object with the keys {', '.join(required)}")
    for key in required:
        if key not in entry:
            raise UnusableError(f'has no "{key}"')
    keys = [*required, *(key for key in optional if key in entry)]
    if (inside_root or "fpath_segm" in required) and all(key in entry for key in _WINDOW):
        keys = list(dict.fromkeys([*keys, *_WINDOW]))
    record = Record(**{key: _value(entry[key], key) for key in keys})
    if inside_root:
        for key, path in (("fpath_img", record.fpath_img), ("fpath_segm", record.fpath_segm)):
            if _leaves_root(path):
                raise UnusableError(f'has {path!r} for "{key}", which leads out of the root folder')
    return record


def _leaves_root(path: str) -> bool:
    """Whether a relative path leads out of its root, judged by its text alone.

    >>> _leaves_root("a/../../b"), _leaves_root("a/../b"), _leaves_root("/b")
    (True, False, False)
    """
    if ".." not in path or Path(path).is_absolute():
        return False
    return Path(os.path.normpath(path)).parts[0] == os.pardir


def parse(line: bytes) -> Any:
    """The JSON value of a line. Raises: UnusableError."""
    try:
        return _DECODER.decode(line.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError:
        raise UnusableError("is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise UnusableError("is not JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Python would take the last value of a key that has several."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if value != found[key]:
                raise UnusableError(f'has two values for "{key}"')
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _value(value: Any, key: str) -> Any:
    """The checked value of a key: a path or a number of pixels."""
    if key.startswith("fpath"):
        if not isinstance(value, str | PathLike) or not is_possible(fspath(value)):
            raise UnusableError(f'has {value!r} for "{key}", which is not a path')
        return fspath(value)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    least = 0 if key in ("left", "top") else 1
    if not whole or not least <= value <= _LONGEST_SIDE:
        allowed = "above 0" if least else "of at least 0"
        raise UnusableError(f'has {value!r} for "{key}", which is not a whole number of pixels {allowed}')
    return int(value)
