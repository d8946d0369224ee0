"""Lines of files that are too large for memory."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

OwnLines = TypeVar("OwnLines", bound="Lines")


def numbered_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The place in bytes, and the content, of each line of a file. A missing file has no lines."""
    if not file.is_file():
        return
    with file.open("rb") as stream:
        start = 0
        for line in stream:
            yield start, line
            start += len(line)


class Lines:
    """Lines by their numbers, which are read when they are needed. It keeps 10 bytes for each.

    As a context manager it closes the files at the end.
    """

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._of, self._starts = array("H"), array("q")
        self._open: dict[int, BinaryIO] = {}

    def __enter__(self: OwnLines) -> OwnLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def add(self, file: Path, start: int) -> int:
        """Add the line that begins there. Returns its number."""
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        self._of.append(len(self._files) - 1)
        self._starts.append(start)
        return len(self._starts) - 1

    def read(self, number: int) -> bytes:
        """The content of a line."""
        of = self._of[number]
        file = self._open.get(of)
        if file is None:
            file = self._open[of] = self._files[of].open("rb")
        file.seek(self._starts[number])
        return file.readline()
