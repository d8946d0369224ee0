"""Texts by the million, such as paths, in little memory."""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

_CODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


class Texts(Sequence[str]):
    """Texts in one block of bytes, in which each needs 8 bytes besides its characters.

    A ``str`` needs about 60, and processes that were forked would copy each that they look at.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a text. Any path that the system gives can be one."""
        self._bytes += text.encode(*_CODING)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        if isinstance(index, slice):
            return Texts(self[k] for k in range(*index.indices(len(self))))
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode(*_CODING)


class NumberedTexts:
    """Texts for some of many numbers."""

    def __init__(self) -> None:
        self._numbers, self._texts = array("q"), Texts()

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, text: str) -> None:
        """Add a text. Its number is above those that were added before."""
        self._numbers.append(number)
        self._texts.append(text)

    def get(self, number: int) -> str | None:
        """The text of a number."""
        place = bisect_left(self._numbers, number)
        there = place < len(self._numbers) and self._numbers[place] == number
        return self._texts[place] if there else None


def first_equals(count: int, text: Callable[[int], str]) -> NDArray[np.int64]:
    """For each of ``count`` texts, the number of the first text that is equal to it: maybe its own.

    Args:
        text: returns a text by its number. The texts themselves are not kept.
    """
    hashes = np.fromiter((hash(text(k)) for k in range(count)), np.int64, count)
    order = np.argsort(hashes, kind="stable")
    first = np.arange(count)
    hashes = hashes[order]
    again = np.flatnonzero(hashes[1:] == hashes[:-1])  # and the one after it has the same hash
    known: dict[str, int] = {}
    for place in again.tolist():
        if place == 0 or hashes[place - 1] != hashes[place]:
            known = {text(int(order[place])): int(order[place])}
        k = int(order[place + 1])
        first[k] = known.setdefault(text(k), k)
    return first


class Index:
    """Numbers by texts, of which it keeps the hashes: 16 bytes for each.

    A text may have several numbers. A number that is found may be that of another text with the same hash.
    """

    def __init__(self) -> None:
        self._hashes, self._numbers = array("q"), array("q")
        self._sorted: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def add(self, text: str, number: int) -> None:
        """Add a number, before the first `find`."""
        self._hashes.append(hash(text))
        self._numbers.append(number)

    def find(self, text: str) -> list[int]:
        """The numbers of a text, in the order in which they were added."""
        if self._sorted is None:
            hashes = np.array(self._hashes, np.int64)
            order = np.argsort(hashes, kind="stable")
            self._sorted = hashes[order], np.array(self._numbers, np.int64)[order]
            self._hashes, self._numbers = array("q"), array("q")
        hashes, numbers = self._sorted
        start = np.searchsorted(hashes, hash(text))
        end = np.searchsorted(hashes, hash(text), side="right")
        found: list[int] = numbers[start:end].tolist()
        return found
