"""Lists of images and labels (.odgt: one JSON object per line), packed to keep a million records small."""

import json
import os
from array import array
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from ..errors import UserError
from ..runtime.paths import is_possible
from ..runtime.progress import ProgressCounter
from .files import missing
from .list_forms import other_form
from .record_index import Columns, Index, has_index, indexed

_SHOWN = 3  # problems spelled out in a message; the rest are counted
_LONGEST_SIDE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a list. Optional keys that the line lacks are '' or 0. Sizes are in pixels."""

    fpath_img: str
    fpath_segm: str = ""
    width: int = 0
    height: int = 0


class Records(Sequence[Record]):
    """A read-only sequence of records in three tensors.

    Loader processes share tensors instead of copying them, both when they are forked and when the dataset is
    pickled. (Python objects would be copied: reading one writes its reference count, and so copies its page.)
    """

    def __init__(
        self, name: str, from_file: bool, source: Columns | Index, rows: torch.Tensor | None = None
    ) -> None:
        """
        Args:
            name: name of the list in messages.
            from_file: whether ``source.numbers`` holds line numbers of a file.
            rows: those of ``source`` that are in the sequence, (N,) int64; None for all.
        """
        self.name = name
        self._from_file = from_file
        self._source = source
        self._rows = rows

    def __len__(self) -> int:
        return len(self._source.bounds if self._rows is None else self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Records": ...
    def __getitem__(self, index: int | slice) -> "Record | Records":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        row = self._row(index)
        start, middle, end = self._source.bounds[row].tolist()
        width, height, _ = self._source.numbers[row].tolist()
        return Record(self._path(start, middle), self._path(middle, end), width, height)

    def take(self, indices: Sequence[int]) -> "Records":
        """The records at these indices, in this order."""
        rows = torch.tensor(indices, dtype=torch.int64)
        if self._rows is not None:
            rows = self._rows[rows]
        return Records(self.name, self._from_file, self._source, rows)

    def _row(self, index: int) -> int:
        return index if self._rows is None else int(self._rows[index])

    def _path(self, start: int, end: int) -> str:
        return self._source.text[start:end].numpy().tobytes().decode("utf-8", "surrogatepass")

    def as_dicts(self) -> list[dict[str, Any]]:
        """The records as dicts: with all keys of their lines if the list is a file, else with the known keys.

        A file is read again, so that the records themselves stay small.
        """
        if self._from_file:
            by_line = {number: _parse(line) for number, line in _lines(Path(self.name))}
            return [by_line[self.number(index)] for index in range(len(self))]
        return [{key: value for key, value in asdict(record).items() if value} for record in self]

    def is_portrait(self) -> np.ndarray:
        """Whether each image is taller than wide; (N,) bool. A square counts as landscape."""
        numbers = self._source.numbers if self._rows is None else self._source.numbers[self._rows]
        return (numbers[:, 1] > numbers[:, 0]).numpy()

    def line(self, index: int) -> str:
        """The line of a record, for messages: ``line 31 of training.odgt``. "" if the list is not a file."""
        return f"line {self.number(index)} of {self.name}" if self._from_file else ""

    def number(self, index: int) -> int:
        """The line number of a record, or its position if the list is not a file; from 1."""
        return int(self._source.numbers[self._row(index), 2])


def read_records(
    odgt: str | PathLike[str] | Iterable[Any],
    *,
    required: Sequence[str] = ("fpath_img", "fpath_segm", "width", "height"),
    optional: Sequence[str] = (),
    inside_root: bool = False,
    on_unusable: Callable[[int, str], None] | None = None,
) -> Records:
    """The records of a list.

    Args:
        odgt: path of an .odgt file, or the records themselves: dicts, or paths of images.
        required: the keys that each record must have.
        optional: keys to read if a record has them. All other keys are ignored.
        inside_root: whether paths are relative to a root folder. If so, a path that leaves the folder
            (``../a.png``) makes its line unusable. Absolute paths are allowed.
        on_unusable: called for each unusable line, with its number and the problem as the end of a sentence
            ("has no ..."). The other lines are returned, maybe none.

    Raises: UserError if the file cannot be read, is empty or is of another form, or if it has unusable lines
        and there is no ``on_unusable``. The error counts all of them.
    """
    read = partial(
        _read, required=required, optional=optional, inside_root=inside_root, on_unusable=on_unusable
    )
    if isinstance(odgt, str | PathLike):
        name, path = fspath(odgt), Path(odgt)
        if not name:
            raise UserError(
                "The path of a list is empty. Set DATASET.list_train and DATASET.list_val to your lists, or "
                "write them with: mit-semseg data prepare"
            )
        if on_unusable or not has_index(path):
            return Records(name, True, read(name, "line", _lines(path)))
        options = {"required": [*required], "optional": [*optional], "inside_root": inside_root}
        return Records(name, True, indexed(path, options, lambda: read(name, "line", _lines_with_bar(path))))
    if isinstance(odgt, Iterable) and not isinstance(odgt, Mapping | bytes):
        name = "the list of records"
        return Records(name, False, read(name, "record", enumerate(odgt, start=1)))
    raise TypeError(f"odgt is a {type(odgt).__name__}; it must be a path or a list of records.")


def _read(
    name: str,
    unit: str,
    entries: Iterable[tuple[int, Any]],
    *,
    required: Sequence[str],
    optional: Sequence[str],
    inside_root: bool,
    on_unusable: Callable[[int, str], None] | None,
) -> Columns:
    """The records of numbered entries; see `read_records`. ``unit``: of an entry, in messages."""
    text, bounds, numbers = bytearray(), array("q"), array("i")
    problems: list[str] = []
    total = bad = 0
    for number, entry in entries:
        total += 1
        try:
            record = _record(entry, required, optional, inside_root)
            image = record.fpath_img.encode("utf-8", "surrogatepass")
            label = record.fpath_segm.encode("utf-8", "surrogatepass")
        except _UnusableError as problem:
            bad += 1
            if total == 1 and unit == "line":
                _refuse_other_form(Path(name))
            if on_unusable:
                on_unusable(number, str(problem))
            elif bad <= _SHOWN:
                problems.append(f"{unit} {number} {problem}")
            continue
        start = len(text)
        text += image
        text += label
        bounds.extend((start, start + len(image), len(text)))
        numbers.extend((record.width, record.height, number))
    if bad and not on_unusable:
        more = f"; ... and {bad - _SHOWN} more" if bad > _SHOWN else ""
        raise UserError(f"{name}: {bad} of {total} {unit}s unusable: {'; '.join(problems)}{more}.")
    if not total:
        raise UserError(f"{name} is empty. It needs one {unit} per image.")
    return Columns(
        _tensor(text, torch.uint8),
        _tensor(bounds, torch.int64).view(-1, 3),
        _tensor(numbers, torch.int32).view(-1, 3),
    )


def read_entries(path: Path) -> list[Any]:
    """The JSON value of each line of a file that is not blank. Raises: UserError for a line without one."""
    entries = []
    for number, line in _lines(path):
        try:
            entries.append(_parse(line))
        except _UnusableError as problem:
            if not entries:
                _refuse_other_form(path)
            raise UserError(f"{path}: line {number} {problem}.") from None
    return entries


def _refuse_other_form(path: Path) -> None:
    """Raises: UserError if a file whose first line is unusable is of a known other form."""
    if form := other_form(path):
        raise UserError(f"{path} {form}") from None


def _tensor(buffer: "bytearray | array[int]", dtype: torch.dtype) -> torch.Tensor:
    """The buffer itself as a tensor, without a copy; torch refuses empty ones."""
    return torch.frombuffer(buffer, dtype=dtype) if len(buffer) else torch.empty(0, dtype=dtype)


class _UnusableError(Exception):
    """The problem with an entry, as the end of a sentence that begins with its line."""


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
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


def _lines_with_bar(path: Path) -> Iterator[tuple[int, bytes]]:
    """`_lines`, with a bar or log lines that show how much of the file has been read."""
    megabytes = path.stat().st_size // 10**6
    read = shown = 0
    with ProgressCounter(megabytes, "MB", what=f"Reading {path.name}") as counter:
        for number, line in _lines(path):
            read += len(line)
            if read // 10**6 > shown:
                counter.add(read // 10**6 - shown)
                shown = read // 10**6
            yield number, line


def _record(entry: Any, required: Sequence[str], optional: Sequence[str], inside_root: bool) -> Record:
    if isinstance(entry, bytes):
        entry = _parse(entry)
    elif isinstance(entry, str | PathLike):
        entry = {"fpath_img": fspath(entry)}
    if not isinstance(entry, Mapping):
        raise _UnusableError(f"is not a JSON object with the keys {', '.join(required)}")
    for key in required:
        if key not in entry:
            raise _UnusableError(f'has no "{key}"')
    keys = [*required, *(key for key in optional if key in entry)]
    record = Record(**{key: _value(entry[key], key) for key in keys})
    if inside_root:
        for key, path in (("fpath_img", record.fpath_img), ("fpath_segm", record.fpath_segm)):
            if _leaves_root(path):
                raise _UnusableError(f'has {path!r} for "{key}", which leads out of the root folder')
    return record


def _leaves_root(path: str) -> bool:
    """Whether a relative path leads out of its root, judged by its text alone.

    >>> _leaves_root("a/../../b"), _leaves_root("a/../b"), _leaves_root("/b")
    (True, False, False)
    """
    if ".." not in path or Path(path).is_absolute():
        return False
    return Path(os.path.normpath(path)).parts[0] == os.pardir


def _parse(line: bytes) -> Any:
    try:
        return _DECODER.decode(line.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError:
        raise _UnusableError("is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise _UnusableError("is not JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Python would take the last value of a key that has several."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if value != found[key]:
                raise _UnusableError(f'has two values for "{key}"')
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _value(value: Any, key: str) -> Any:
    """The checked value of a key: a path or a number of pixels."""
    if key.startswith("fpath"):
        if not isinstance(value, str | PathLike) or not is_possible(fspath(value)):
            raise _UnusableError(f'has {value!r} for "{key}", which is not a path')
        return fspath(value)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 1 <= value <= _LONGEST_SIDE:
        raise _UnusableError(f'has {value!r} for "{key}", which is not a whole number of pixels above 0')
    return int(value)
