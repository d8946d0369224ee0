"""Lists of images and labels, packed to keep millions of records small."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from ..errors import UserError
from .record_index import Columns, Index, has_index, indexed
from .record_lines import Record, UnusableError, lines, lines_with_bar, parse, refuse_other_form, to_record
from .remote import address_of

_SHOWN = 3  # problems spelled out in a message; the rest are counted


class Records(Sequence[Record]):
    """A read-only sequence of records in a few tensors.

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
        source, row = self._source, self._row(index)
        start, middle, end = source.bounds[row].tolist()
        width, height, _ = source.numbers[row].tolist()
        left, top = source.places[row].tolist() if len(source.places) else (-1, -1)
        return Record(self._path(start, middle), self._path(middle, end), width, height, left, top)

    def take(self, indices: Sequence[int]) -> "Records":
        """The records at these indices, in this order."""
        rows = torch.tensor(indices, dtype=torch.int64)
        if self._rows is not None:
            rows = self._rows[rows]
        return Records(self.name, self._from_file, self._source, rows)

    def has_windows(self) -> bool:
        """Whether any record is a window of a scene."""
        return bool(len(self._source.places))

    def _row(self, index: int) -> int:
        return index if self._rows is None else int(self._rows[index])

    def _path(self, start: int, end: int) -> str:
        return self._source.text[start:end].numpy().tobytes().decode("utf-8", "surrogatepass")

    def as_dicts(self) -> list[dict[str, Any]]:
        """The records as dicts: with all keys of their lines if the list is a file, else with the known keys.

        A file is read again, so that the records themselves stay small.
        """
        if self._from_file:
            by_line = {number: parse(line) for number, line in lines(Path(self.name))}
            return [by_line[self.number(index)] for index in range(len(self))]
        return [
            {key: value for key, value in asdict(record).items() if _is_given(key, value)} for record in self
        ]

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
        if address_of(name):
            raise UserError(
                f"{name} is an address, but a list is a file on the disk. Download it; its lines may name "
                "addresses."
            )
        if not name:
            raise UserError(
                "The path of a list is empty. Set DATASET.list_train and DATASET.list_val to your lists, or "
                "write them with: mit-semseg data prepare"
            )
        if on_unusable or not has_index(path):
            return Records(name, True, read(name, "line", lines(path)))
        options = {"required": [*required], "optional": [*optional], "inside_root": inside_root}
        return Records(name, True, indexed(path, options, lambda: read(name, "line", lines_with_bar(path))))
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
    text, bounds, numbers, places = bytearray(), array("q"), array("i"), array("i")
    windows = False
    problems: list[str] = []
    total = bad = 0
    for number, entry in entries:
        total += 1
        try:
            record = to_record(entry, required, optional, inside_root)
            image = record.fpath_img.encode("utf-8", "surrogatepass")
            label = record.fpath_segm.encode("utf-8", "surrogatepass")
        except UnusableError as problem:
            bad += 1
            if total == 1 and unit == "line":
                refuse_other_form(Path(name))
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
        places.extend((record.left, record.top))
        windows |= record.is_window
    if bad and not on_unusable:
        more = f"; ... and {bad - _SHOWN} more" if bad > _SHOWN else ""
        raise UserError(f"{name}: {bad} of {total} {unit}s unusable: {'; '.join(problems)}{more}.")
    if not total:
        raise UserError(f"{name} is empty. It needs one {unit} per image.")
    return Columns(
        _tensor(text, torch.uint8),
        _tensor(bounds, torch.int64).view(-1, 3),
        _tensor(numbers, torch.int32).view(-1, 3),
        _tensor(places if windows else array("i"), torch.int32).view(-1, 2),
    )


def read_entries(path: Path) -> list[Any]:
    """The JSON value of each line of a file that is not blank. Raises: UserError for a line without one."""
    entries = []
    for number, line in lines(path):
        try:
            entries.append(parse(line))
        except UnusableError as problem:
            if not entries:
                refuse_other_form(path)
            raise UserError(f"{path}: line {number} {problem}.") from None
    return entries


def _is_given(key: str, value: Any) -> bool:
    """Whether a line has a key, to judge by the value in its record."""
    return bool(value >= 0 if key in ("left", "top") else value)


def _tensor(buffer: "bytearray | array[int]", dtype: torch.dtype) -> torch.Tensor:
    """The buffer itself as a tensor, without a copy; torch refuses empty ones."""
    return torch.frombuffer(buffer, dtype=dtype) if len(buffer) else torch.empty(0, dtype=dtype)
