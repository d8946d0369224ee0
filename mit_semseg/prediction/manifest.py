"""The manifest of an output folder: from which input each file was made, and how, for runs that resume."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..inference.fingerprint import Fingerprint
from ..runtime.files import sha256_of, state_of, unwritable
from ..runtime.paths import is_possible
from .inputs import Input

_NAME = ".manifest.jsonl"
_FORMER_NAME = ".made.jsonl"  # of release 2.0; it is read, but not written

State = list[int] | None
"""The size and the time of the last change of a file, see `state_of`."""


@dataclass(frozen=True)
class Made:
    """One output of an input, as the manifest records it.

    Attributes:
        path: of the file; None for a card of the page.
        fingerprint: of the prediction; None if an earlier release has made the output.
        source: the state of the input before it was read; None likewise.
        state: of the complete file; None likewise.
        sha256: of its content.
        problem: what was wrong with the input, as a sentence; "" for nothing.
    """

    path: Path | None
    fingerprint: Fingerprint | None = None
    source: State = None
    state: State = None
    sha256: str = ""
    problem: str = ""

    def is_intact(self) -> bool:
        """Whether the file has the content that was written."""
        if self.path is None:
            return True
        now = state_of(self.path)
        if now == self.state or now is None or self.state is None:
            return now is not None
        # A copy of the folder may have other times.
        return now[0] == self.state[0] and sha256_of(self.path) == self.sha256


class Manifest:
    """A file in the output folder with one line of JSON for each finished input.

    The names of files would not suffice: two folders may each have an ``a.jpg``, and the name of an output
    depends on the other inputs. A fingerprint is written once, in a line of its own, to which others refer.
    All processes append to one file, each line with one write. A line that a killed process has torn is
    ignored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / _NAME
        self._written = ""  # the fingerprint to which this object has referred last

    def add(
        self,
        source: Input,
        state: State,
        fingerprint: Fingerprint,
        targets: Mapping[str, Path],
        *,
        cards: Sequence[str] = (),
        problem: str = "",
    ) -> None:
        """Record that an input is done.

        Args:
            state: of the input before it was read.
            fingerprint: of the prediction.
            targets: the file of each of its outputs, inside the folder and complete.
            cards: the outputs that are cards on a page, without a file of their own.
            problem: what is wrong with the input, as a sentence.

        Raises: UserError if the file cannot be written.
        """
        text = json.dumps(fingerprint, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        line: dict[str, Any] = {"input": source.identity, "state": state, "fingerprint": key, "outputs": {}}
        line |= {"files": {}, "cards": list(cards), "problem": problem}
        for output, path in targets.items():
            line["outputs"][output] = path.relative_to(self._folder).as_posix()
            line["files"][output] = [state_of(path), sha256_of(path)]
        lines = [line] if key == self._written else [{"fingerprint": key, "settings": fingerprint}, line]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                for each in lines:
                    # Start a new line: a run that was killed may have left half a line.
                    file.write(f"\n{json.dumps(each)}\n".encode())
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._written = key

    def made(self) -> dict[str, dict[str, Made]]:
        """The outputs of each input that exist, by the input's identity and by their names.

        A file belongs to its latest input.
        """
        settings: dict[str, Fingerprint] = {}
        owners: dict[tuple[str, str], tuple[str, str, Made]] = {}
        for line in self._lines():
            if "outputs" not in line:
                settings[line["fingerprint"]] = line["settings"]
                continue
            source = line["input"]
            card = Made(
                None,
                fingerprint=settings.get(line.get("fingerprint", "")),
                source=line.get("state"),
                problem=line.get("problem", ""),
            )
            for output, path in line["outputs"].items():
                state, sha256 = line.get("files", {}).get(output, (None, ""))
                made = replace(card, path=self._folder / path, state=state, sha256=sha256)
                owners[path, ""] = source, output, made
            for output in line.get("cards", ()):
                owners[source, output] = source, output, card
        found: dict[str, dict[str, Made]] = {}
        for source, output, made in owners.values():
            if made.path is None or made.path.exists():
                found.setdefault(source, {})[output] = made
        return found

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The oldest first."""
        for path in (self._folder / _FORMER_NAME, self._path):
            for text in path.read_bytes().splitlines() if path.is_file() else []:
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):
                    continue
                if isinstance(line, dict) and _is_line(line):
                    yield line


def _is_line(line: dict[str, Any]) -> bool:
    """Whether `Manifest.add` of this release or an earlier one has written a line, to judge by its types."""
    if line.keys() >= {"fingerprint", "settings"}:
        return isinstance(line["fingerprint"], str) and isinstance(line["settings"], dict)
    outputs, files, cards = line.get("outputs"), line.get("files", {}), line.get("cards", [])
    texts = (line.get("input"), line.get("fingerprint", ""), line.get("problem", ""))
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(outputs, dict)
        and all(_is_inside(path) for path in outputs.values())
        and _is_state(line.get("state"))
        and isinstance(files, dict)
        and all(_is_file(file) for file in files.values())
        and isinstance(cards, list)
        and all(isinstance(card, str) for card in cards)
    )


def _is_inside(path: Any) -> bool:
    """Whether a path names something inside the output folder."""
    return (
        isinstance(path, str)
        and is_possible(path)
        and not Path(path).is_absolute()
        and path not in (".", "/")
        and ".." not in Path(path).parts
    )


def _is_file(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_state(value[0]) and isinstance(value[1], str)


def _is_state(value: Any) -> bool:
    return value is None or (isinstance(value, list) and [type(part) for part in value] == [int, int])
