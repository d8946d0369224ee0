"""The journal of an evaluation: the results so far, on disk, so that a killed evaluation can be resumed."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ProcessError, UserError
from ..inference.fingerprint import Fingerprint, difference
from ..runtime.distributed import ProcessInfo, gather_from_processes
from ..runtime.files import unwritable
from ..runtime.log import get_logger
from .tally import ImageResult, Tally

_HINT = "The results so far are kept: set VAL.resume True to resume."

States = list[list[int] | None]
"""Of an image and its label, see `state_of`."""


@dataclass(frozen=True)
class Journal:
    """A folder with one file for each process and start of an unfinished evaluation.

    The first line of a file is the fingerprint. Each further line is the JSON of one batch, which is recorded
    as a whole or not at all. A killed process may leave a torn last line, which is ignored.

    Attributes:
        folder: created with the first result.
        fingerprint: all that results depend on, besides the images and labels.
        states: of the files of each image, before any is read.
    """

    folder: Path
    fingerprint: Fingerprint
    states: Sequence[States]

    def prepare(self, *, resume: bool) -> None:
        """Check that the recorded results belong to this evaluation, or without ``resume`` delete them.

        The first process calls it before any process adds a result.

        Raises: UserError for results of another evaluation, with the first difference; or if a file cannot be
            read or deleted.
        """
        if resume:
            self._check()
        elif self._files():
            get_logger().info(
                "Deleted the results of an unfinished evaluation in %s. VAL.resume True would resume it.",
                self.folder,
            )
            self.delete()

    def resume(self, tally: Tally, process: ProcessInfo) -> tuple[int, set[int]]:
        """Add the recorded results to the tally of the first process. All processes call it together.

        Results on images that have changed since are not added, so these images are scored again.

        Returns: the number of this start, for `append`; and the first image of each batch that is recorded.
        """
        position: tuple[int, set[int]] = 0, set()
        if process.is_first:
            done = set()
            current: set[int] = set()
            changed: set[int] = set()
            for batch, is_current in self._batches(tally.matrix.num_class):
                rows = [result.index for result in batch]
                (current if is_current else changed).update(rows)
                if is_current:
                    done.add(min(rows))
                    for result in batch:
                        tally.include(result)
            if done:
                count = len(self.states)
                get_logger().info("Resuming: %d of %d images are scored", len(tally.images), count)
            if changed - current:
                get_logger().info(
                    "Scoring %d images again, because they or their labels have changed since, or because an "
                    "earlier release did not record their files",
                    len(changed - current),
                )
            position = self._next_start(), done
        # The exchange also keeps the other processes from adding results before the first one has read all.
        return gather_from_processes(position)[0]

    def append(self, batch: Sequence[ImageResult], start: int, rank: int) -> None:
        """Record the results on a batch in the file of process ``rank`` and this start.

        Raises: UserError if the file cannot be written.
        """
        path = self.folder / f"{start:04d}-{rank:04d}.jsonl"
        lines = [] if path.exists() else [self.fingerprint]
        states = [self.states[result.index] for result in batch]
        lines.append({"batch": [result.to_json() for result in batch], "states": states})
        data = memoryview("".join(json.dumps(line) + "\n" for line in lines).encode())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                while data:
                    data = data[file.write(data) :]
        except OSError as error:
            raise unwritable(path, error) from error

    def delete(self) -> None:
        """Delete the files of the journal, and its folder if nothing else is in it.

        Raises: UserError if that fails.
        """
        try:
            for file in self._files():
                file.unlink()
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be deleted: {error.strerror}. Delete it by hand."
            ) from error

    @contextmanager
    def hinting_at_resume(self) -> Iterator[None]:
        """Inside the block, the message of an error also says how to resume, if there are results."""
        try:
            yield
        except (UserError, ProcessError) as error:
            if not self._files():
                raise
            gap = "\n" if "\n" in str(error) else " "
            raise type(error)(f"{error}{gap}{_HINT}") from error
        except (KeyboardInterrupt, SystemExit):
            if self._files():
                get_logger().info(_HINT)
            raise

    def _files(self) -> list[Path]:
        """In the order of the starts."""
        return sorted(self.folder.glob("[0-9]*-[0-9]*.jsonl"))

    def _check(self) -> None:
        for file in self._files():
            recorded = next(_lines(file), None)
            if recorded is None:
                continue
            if change := difference(recorded, self.fingerprint):
                raise UserError(
                    f"{self.folder} belongs to another evaluation: {change}. "
                    "Restore that to resume, or set VAL.resume False to score all images again."
                )

    def _batches(self, num_class: int) -> Iterator[tuple[list[ImageResult], bool]]:
        """The results on each batch, and whether its files are still the same; those only once."""
        seen: set[int] = set()
        for file in self._files():
            lines = _lines(file)
            next(lines, None)
            for line in lines:
                batch = self._batch(line, num_class)
                if not batch:
                    continue
                is_current = line.get("states") == [self.states[result.index] for result in batch]
                if batch[0].index not in seen:
                    if is_current:
                        seen.add(batch[0].index)
                    yield batch, is_current

    def _batch(self, line: dict[str, Any], num_class: int) -> list[ImageResult]:
        """The results in a line; none if it is damaged, so that its images are scored again."""
        try:
            batch = [ImageResult.from_json(value, num_class) for value in line["batch"]]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
            return []
        return batch if all(0 <= result.index < len(self.states) for result in batch) else []

    def _next_start(self) -> int:
        """The lowest number that is higher than that of every file."""
        return 1 + max((int(file.name.split("-")[0]) for file in self._files()), default=0)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a file; none if its first line, the fingerprint, is torn."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    for line in content.split(b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict):
            return
        yield value
