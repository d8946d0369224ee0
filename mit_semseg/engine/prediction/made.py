"""Which input each file in the output folder was made of, for the run that leaves out what is done."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ...atomic import unwritable

_NAME = ".made.jsonl"


class Made:
    """A record in the output folder: a line of JSON for each input that was done.

    Names of files alone would not tell: two folders may each have an ``a.jpg``, and the name of an output
    depends on the other inputs. All processes add to one file, each line in one write. A line that a killed
    process has torn reads as if it were not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / _NAME

    def add(self, name: str, targets: Mapping[str, Path]) -> None:
        """Note that an input is done.

        Args:
            name: of the input's file.
            targets: the file of each of its outputs, below the folder.

        Raises: UserError if the disk refuses.
        """
        outputs = {output: path.relative_to(self._folder).as_posix() for output, path in targets.items()}
        if not outputs:
            return
        line = json.dumps({"input": identity(name), "outputs": outputs})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                # A line of its own, whatever a run that was killed has left behind.
                file.write(f"\n{line}\n".encode())
        except OSError as error:
            raise unwritable(self._path, error) from error

    def targets(self) -> dict[str, dict[str, Path]]:
        """The outputs of each input, by its `identity`; without those that are gone or of another by now."""
        owners: dict[str, tuple[str, str]] = {}
        for line in self._lines():
            for output, path in line["outputs"].items():
                owners[path] = (line["input"], output)
        found: dict[str, dict[str, Path]] = {}
        for path, (source, output) in owners.items():
            if (self._folder / path).exists():
                found.setdefault(source, {})[output] = self._folder / path
        return found

    def _lines(self) -> list[dict]:
        lines = []
        for text in self._path.read_bytes().splitlines() if self._path.is_file() else []:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and line.keys() >= {"input", "outputs"}:
                lines.append(line)
        return lines


def identity(name: str) -> str:
    """An input's file by its whole path, however it was named."""
    return os.path.realpath(name)
