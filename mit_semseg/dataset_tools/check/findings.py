"""Where problems were found, packed so that a million findings stay small."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...data.file_cache import FileCache
from ...data.records import Record, Records
from ...data.remote import Address
from ...data.shards import located
from .examine import LABEL

LINE = 2
"""In place of `IMAGE` or `LABEL`: the line of the list itself."""


@dataclass(frozen=True, slots=True)
class CheckedList:
    """A list that is checked."""

    name: str
    root: str
    records: Records
    role: str = ""
    """"training" or "validation" if a config says so."""
    cache: FileCache | None = None
    """Of remote files; None for the default one."""

    def path(self, listed: str) -> str:
        """The file that a path in the list names: a path, or an `Address`."""
        place = located(self.root, listed, self.cache)
        return place if isinstance(place, Address) else str(place)


@dataclass(frozen=True, slots=True)
class RepeatedRecord:
    """The record that another one repeats."""

    list: int
    """The number of its list."""
    line: int
    image: str
    window: tuple[int, int, int, int] | None = None
    """Left, top, width and height of a window of a scene, in pixels; None for a whole image."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One occurrence of an issue. ``image`` and ``label`` are as in the list; "" for an unusable line."""

    list: int
    """The number of the list."""
    line: int
    file: int
    """`IMAGE`, `LABEL` or `LINE`."""
    image: str
    label: str
    detail: str
    repeats: RepeatedRecord | None = None
    window: tuple[int, int, int, int] | None = None
    """As in `RepeatedRecord`."""

    @property
    def path(self) -> str:
        """The file in question."""
        return self.label if self.file == LABEL else self.image


class Findings:
    """All occurrences of an issue: 21 bytes each, and every distinct detail once."""

    def __init__(self) -> None:
        self._list = array("i")
        self._index = array("i")
        self._file = array("b")
        self._detail = array("i")
        self._repeats = array("q")
        self._details: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._index)

    def add(self, number: int, index: int, file: int, detail: str = "", repeats: int = -1) -> None:
        """Adds an occurrence.

        Args:
            number: of the list.
            index: of the record in the list; the number of the line if ``file`` is `LINE`.
            file: `IMAGE`, `LABEL` or `LINE`.
            repeats: position of the record that this one repeats, among all records of all lists; -1: none.
        """
        self._list.append(number)
        self._index.append(index)
        self._file.append(file)
        self._detail.append(self._details.setdefault(detail, len(self._details)))
        self._repeats.append(repeats)

    def extend(self, others: "Findings") -> None:
        """Adds all occurrences of another."""
        details = list(others._details)
        columns = (others._list, others._index, others._file, others._detail, others._repeats)
        for number, index, file, detail, repeats in zip(*columns, strict=True):
            self.add(number, index, file, details[detail], repeats)

    def count(self, number: int) -> int:
        """The number of occurrences in a list."""
        return self._list.count(number)

    def unpacked(self, lists: Sequence[CheckedList]) -> Iterator[Finding]:
        """The occurrences, in the order of the lists and their lines."""
        details = list(self._details)
        order = np.lexsort((np.array(self._index), np.array(self._list)))  # stable
        for at in order:
            number, index, file = self._list[at], self._index[at], self._file[at]
            detail, records = details[self._detail[at]], lists[number].records
            if file == LINE:
                yield Finding(number, index, file, "", "", detail)
                continue
            record = records[index]
            repeats = _record_at(self._repeats[at], lists) if self._repeats[at] >= 0 else None
            line = records.number(index)
            paths = record.fpath_img, record.fpath_segm
            yield Finding(number, line, file, *paths, detail, repeats, _window(record))


def _window(record: Record) -> tuple[int, int, int, int] | None:
    return (record.left, record.top, record.width, record.height) if record.is_window else None


def _record_at(position: int, lists: Sequence[CheckedList]) -> RepeatedRecord:
    """The record at a position among all records of all lists."""
    for number, checked in enumerate(lists):
        if position < len(checked.records):
            record = checked.records[position]
            return RepeatedRecord(number, checked.records.number(position), record.fpath_img, _window(record))
        position -= len(checked.records)
    raise AssertionError(position)
