"""What an evaluation has scored so far, on the disk, for the one that goes on after it was killed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...atomic import unwritable
from ...errors import UserError
from .scored import Scored, from_json, to_json

_DIGEST = 64  # characters of a SHA-256, which tell a reader nothing


@dataclass(frozen=True)
class ScoredLog:
    """A folder with a file for each process and start of an unfinished evaluation.

    A file begins with the settings; behind them stands a line of JSON a batch, which is scored as a whole or
    not at all. A process that is killed may leave its last line torn, which reads as if it were not there.

    Attributes:
        folder: made with the first result.
        settings: all that results depend on, see settings_of.py.
    """

    folder: Path
    settings: dict[str, Any]

    def files(self) -> list[Path]:
        """In the order of the starts; none if no result was kept."""
        return sorted(self.folder.glob("[0-9]*-[0-9]*.jsonl"))

    def check(self) -> None:
        """Refuse results that other settings gave.

        Raises: UserError that names the first difference.
        """
        for file in self.files():
            found = next(_lines(file), None)
            if found is None:
                continue
            for name, now in self.settings.items():
                if found.get(name) != now:
                    raise UserError(
                        f"{self.folder} is of another evaluation: {_difference(name, found, now)}. "
                        "To go on with it, set that back; to score everything anew, set VAL.resume False."
                    )

    def batches(self, num_class: int) -> Iterator[list[Scored]]:
        """The results on each batch, once."""
        seen: set[int] = set()
        for file in self.files():
            lines = _lines(file)
            next(lines, None)
            for line in lines:
                batch = [from_json(image, num_class) for image in line["batch"]]
                if batch[0].index not in seen:
                    seen.add(batch[0].index)
                    yield batch

    def next_start(self) -> int:
        """A number that no file has yet."""
        return 1 + max((int(file.name.split("-")[0]) for file in self.files()), default=0)

    def keep(self, batch: Sequence[Scored], start: int, rank: int) -> None:
        """Add the results on a batch to the file of process ``rank`` since ``start``.

        Raises: UserError if the disk refuses.
        """
        path = self.folder / f"{start:04d}-{rank:04d}.jsonl"
        lines = [] if path.exists() else [self.settings]
        lines.append({"batch": [to_json(scored) for scored in batch]})
        data = memoryview("".join(json.dumps(line) + "\n" for line in lines).encode())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                while data:
                    data = data[file.write(data) :]
        except OSError as error:
            raise unwritable(path, error) from error

    def drop(self) -> None:
        """Remove all of it, and nothing else.

        Raises: UserError if the disk refuses.
        """
        try:
            for file in self.files():
                file.unlink()
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be removed: {error.strerror}. Remove it by hand."
            ) from error


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a file; nothing if its first one, the settings, is not complete."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    for line in content.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            return
        if not isinstance(value, dict):
            return
        yield value


def _difference(name: str, found: dict[str, Any], now: Any) -> str:
    before = found.get(name)
    if before is None or len(str(before)) == len(str(now)) == _DIGEST:
        return f"{name} has changed"
    return f"{name} was {before} and is {now} now"
