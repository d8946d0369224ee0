"""Files that hold a part for each image: the page of predictions, and the files of labelling tools.

There may be more parts than fit into memory. So each part is one line that is found by its key, first in a
file of its process and in the end in the whole file, where a resumed run finds it again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..report import predictions
from ..runtime.files import replacing, unwritable
from .tools import coco, cvat

PAGE = "html"


class _Kind(NamedTuple):
    """One kind of file.

    Attributes:
        file: its name.
        parts: the name of the file to which process {} appends.
        key: of a part, from the input's path and its name in labelling tools.
        key_of: the key of a line; None for a line that is not a part.
    """

    file: str
    parts: str
    key: Callable[[str, str], str]
    key_of: Callable[[bytes], str | None]


COLLECTED = {
    PAGE: _Kind(
        "predictions.html",
        ".predictions.{}.cards",
        lambda path, name: predictions.card_key(path),
        predictions.key_of,
    ),
    "coco": _Kind(coco.NAME, ".predictions_coco.{}.parts", lambda path, name: name, coco.key_of),
    "cvat": _Kind(cvat.NAME, ".predictions_cvat.{}.parts", lambda path, name: cvat.text(name), cvat.key_of),
}
"""By the name of the output."""

Lines = Callable[[], Iterable[bytes]]
"""The parts, once more with each call."""


class _Position(NamedTuple):
    file: Path
    start: int
    length: int


def known_parts(folder: Path, output: str) -> set[str]:
    """The keys of the parts of earlier runs, in their file or in the part files of an unfinished run."""
    return set(_find(folder, output, earlier=True))


def drop_parts(folder: Path, output: str) -> None:
    """Delete the part files of an earlier run that did not finish."""
    for file in folder.glob(COLLECTED[output].parts.format("*")):
        file.unlink()


class PartFile:
    """The file to which process ``rank`` appends its parts of an output."""

    def __init__(self, folder: Path, output: str, rank: int) -> None:
        self._folder, self._path = folder, folder / COLLECTED[output].parts.format(rank)

    def add(self, part: bytes) -> None:
        """Append a line. Raises: UserError if the file cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as parts:
                # Start a new line: a run that was killed may have left half a line.
                parts.write(b"\n" + part)
        except OSError as error:
            raise unwritable(self._path, error) from error


def read_parts(
    folder: Path, output: str, keys: Sequence[str], *, earlier: bool
) -> Iterator[tuple[str, bytes]]:
    """The keys and parts of all processes, in the order of ``keys``. Arguments as for `write_whole`."""
    found = _find(folder, output, earlier=earlier)
    there = [key for key in keys if key in found]
    return zip(there, _read([found[key] for key in there]), strict=True)


def write_whole(
    folder: Path,
    output: str,
    keys: Sequence[str],
    pieces: Callable[[Lines, int], Iterator[bytes]],
    *,
    earlier: bool,
) -> Path:
    """Write a file from the parts of all processes, in the order of ``keys``, and delete the part files.

    Args:
        pieces: the file in pieces, from its parts and their number.
        earlier: take parts that this run does not have from the file of an earlier run.

    Raises: UserError if the file cannot be written.
    """
    found = _find(folder, output, earlier=earlier)
    positions = [found[key] for key in keys if key in found]
    path = folder / COLLECTED[output].file
    with replacing(path) as file:
        for piece in pieces(lambda: _read(positions), len(positions)):
            file.write(piece)
    drop_parts(folder, output)
    return path


def _find(folder: Path, output: str, *, earlier: bool) -> dict[str, _Position]:
    kind = COLLECTED[output]
    found = {}
    whole = [folder / kind.file] if earlier else []
    for path in (*whole, *sorted(folder.glob(kind.parts.format("*")))):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            start = 0
            for line in file:
                key = kind.key_of(line)
                if key is not None:
                    found[key] = _Position(path, start, len(line))
                start += len(line)
    return found


def _read(positions: Sequence[_Position]) -> Iterator[bytes]:
    files: dict[Path, BinaryIO] = {}
    try:
        for file, start, length in positions:
            if file not in files:
                files[file] = file.open("rb")
            files[file].seek(start)
            yield files[file].read(length)
    finally:
        for stream in files.values():
            stream.close()
