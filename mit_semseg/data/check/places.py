"""Where problems were found, packed so that a million places stay small."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..records import Records
from .examine import LABEL

LINE = 2
"""In place of `IMAGE` or `LABEL`: the line of the list itself."""


@dataclass(frozen=True, slots=True)
class Source:
    """A list that is checked."""

    name: str
    root: str
    records: Records
    role: str = ""
    """"training" or "validation" if a config says so."""

    def path(self, listed: str) -> str:
        """The file that a path in the list names."""
        return str(Path(self.root, listed))


@dataclass(frozen=True, slots=True)
class Other:
    """A record that another one repeats."""

    source: int
    line: int
    image: str


@dataclass(frozen=True, slots=True)
class Place:
    """One place, spelled out. ``image`` and ``label`` are as in the list, "" for an unusable line."""

    source: int
    line: int
    file: int
    image: str
    label: str
    detail: str
    other: "Other | None" = None
    """What this one repeats."""

    @property
    def path(self) -> str:
        """The file in question."""
        return self.label if self.file == LABEL else self.image


class Places:
    """All places of one kind of problem: 21 bytes each; equal details are kept once."""

    def __init__(self) -> None:
        self._source = array("i")
        self._index = array("i")
        self._file = array("b")
        self._detail = array("i")
        self._other = array("q")
        self._details: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._index)

    def add(self, source: int, index: int, file: int, detail: str = "", other: int = -1) -> None:
        """Adds a place.

        Args:
            source: number of the list.
            index: of the record in it; the number of the line if ``file`` is `LINE`.
            file: `IMAGE`, `LABEL` or `LINE`.
            other: place among all records of all lists that this one repeats, -1 for none.
        """
        self._source.append(source)
        self._index.append(index)
        self._file.append(file)
        self._detail.append(self._details.setdefault(detail, len(self._details)))
        self._other.append(other)

    def extend(self, others: "Places") -> None:
        """Adds all places of another."""
        details = list(others._details)
        columns = (others._source, others._index, others._file, others._detail, others._other)
        for source, index, file, detail, other in zip(*columns, strict=True):
            self.add(source, index, file, details[detail], other)

    def count(self, source: int) -> int:
        """How many places are in a list."""
        return self._source.count(source)

    def spelled(self, sources: Sequence[Source]) -> Iterator[Place]:
        """The places, in the order of the lists and their lines."""
        details = list(self._details)
        order = np.lexsort((np.array(self._index), np.array(self._source)))  # stable
        for at in order:
            number, index, file = self._source[at], self._index[at], self._file[at]
            detail, records = details[self._detail[at]], sources[number].records
            if file == LINE:
                yield Place(number, index, file, "", "", detail)
                continue
            record = records[index]
            other = _find(self._other[at], sources) if self._other[at] >= 0 else None
            line = records.number(index)
            yield Place(number, line, file, record.fpath_img, record.fpath_segm, detail, other)


def _find(position: int, sources: Sequence[Source]) -> Other:
    """The record at a place among all records of all lists."""
    for number, source in enumerate(sources):
        if position < len(source.records):
            return Other(number, source.records.number(position), source.records[position].fpath_img)
        position -= len(source.records)
    raise AssertionError(position)
