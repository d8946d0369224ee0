"""Files that hold a part for each image: the page of predictions, and the files of labelling tools.

There may be more parts than fit into memory. So each part is one line that is found by its key, first in a
file of its process and in the end in the whole file, where a resumed run finds it again.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..report import predictions
from ..runtime.files import replacing, unwritable
from ..runtime.lines import Lines, numbered_lines
from ..runtime.texts import Index
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

Content = Callable[[], Iterable[bytes]]
"""The parts, once more with each call."""


class Parts(Lines):
    """The parts of an output in the files of all processes. A part is read when it is needed.

    Args:
        folder: of the outputs.
        earlier: also those of earlier runs: in the whole file, or in the part files of an unfinished run.
    """

    def __init__(self, folder: Path, output: str, *, earlier: bool) -> None:
        super().__init__()
        self._kind, self._keys = COLLECTED[output], Index()
        whole = [folder / self._kind.file] if earlier else []
        for file in (*whole, *sorted(folder.glob(self._kind.parts.format("*")))):
            for start, line in numbered_lines(file):
                key = self._kind.key_of(line)
                if key is not None:
                    self._keys.add(key, self.add(file, start))

    def get(self, key: str) -> bytes | None:
        """The latest part with a key."""
        for number in reversed(self._keys.find(key)):
            line = self.read(number)
            if self._kind.key_of(line) == key:
                return line
        return None

    def __contains__(self, key: str) -> bool:
        """Judges by the hash of the key, without reading the part."""
        return bool(self._keys.find(key))


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


def write_whole(
    folder: Path,
    output: str,
    keys: Callable[[], Iterable[str]],
    pieces: Callable[[Content, int], Iterator[bytes]],
    *,
    earlier: bool,
) -> Path:
    """Write a file from the parts of all processes, and delete the part files.

    Args:
        keys: returns the keys of the parts in their order, once more with each call.
        pieces: the file in pieces, from its parts and their number.
        earlier: take parts that this run does not have from the file of an earlier run.

    Raises: UserError if the file cannot be written.
    """
    path = folder / COLLECTED[output].file
    with Parts(folder, output, earlier=earlier) as parts, replacing(path) as file:

        def lines() -> Iterator[bytes]:
            return (line for key in keys() if (line := parts.get(key)) is not None)

        for piece in pieces(lines, sum(key in parts for key in keys())):
            file.write(piece)
    drop_parts(folder, output)
    return path
