"""The manifest of an output folder: from which input each file was made, and how, for runs that resume."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..inference.fingerprint import Fingerprint
from ..runtime.files import sha256_of, state_of, unwritable
from ..runtime.lines import Lines, numbered_lines
from ..runtime.paths import is_possible
from ..runtime.texts import Index
from .inputs import Input

_NAME = ".manifest.jsonl"
_FORMER_NAME = ".made.jsonl"  # of release 2.0; it is read, but not written

State = list[int] | None
"""The size and the time of the last change of a file, see `state_of`."""


@dataclass(frozen=True)
class Made:
    """One output of an input, as the manifest records it.

    Attributes:
        path: of the file; None for a part of a file for all inputs.
        fingerprint: of the prediction; None if an earlier release has made the output.
        source: the state of the input before it was read; None likewise.
        state: of the complete file; None likewise.
        sha256: of its content.
        problem: what was wrong with the input, as a sentence; "" for nothing.
        key: of a part of a file for all inputs; None if an earlier release has made it.
    """

    path: Path | None
    fingerprint: Fingerprint | None = None
    source: State = None
    state: State = None
    sha256: str = ""
    problem: str = ""
    key: str | None = None

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
        cards: Mapping[str, str] | None = None,
        problem: str = "",
    ) -> None:
        """Record that an input is done.

        Args:
            state: of the input before it was read.
            fingerprint: of the prediction.
            targets: the file of each of its outputs, inside the folder and complete.
            cards: the outputs that are a part of one file for all inputs, and the key of the part.
            problem: what is wrong with the input, as a sentence.

        Raises: UserError if the file cannot be written.
        """
        text = json.dumps(fingerprint, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        line: dict[str, Any] = {"input": source.identity, "state": state, "fingerprint": key, "outputs": {}}
        line |= {"files": {}, "cards": dict(cards or {}), "problem": problem}
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

    def recorded(self) -> "Recorded":
        """What the manifest says. It is read once from the start to the end."""
        return Recorded(self._folder, [self._folder / _FORMER_NAME, self._path])


class Recorded(Lines):
    """What a manifest says, for a million inputs: where its lines are. A line is read when it is needed.

    Args:
        folder: of the outputs.
        files: of lines, the oldest first.
    """

    def __init__(self, folder: Path, files: Sequence[Path] = ()) -> None:
        super().__init__()
        self._folder = folder
        self._settings: dict[str, Fingerprint] = {}
        self._inputs, self._owners = Index(), Index()  # numbers of lines
        for file in files:
            for start, text in numbered_lines(file):
                line = _parsed(text)
                if line is None:
                    continue
                if "outputs" not in line:
                    self._settings[line["fingerprint"]] = line["settings"]
                    continue
                number = self.add(file, start)
                self._inputs.add(line["input"], number)
                for path in line["outputs"].values():
                    self._owners.add(path, number)
                for output, key in _keys_of(line).items():
                    self._owners.add(_owned(output, key), number)

    def has(self, path: str) -> bool:
        """Whether a path inside the folder is that of an output."""
        return bool(self._owners.find(path))

    def of(self, identity: str) -> dict[str, Made]:
        """The outputs of an input that exist, by their names. A file belongs to its latest input."""
        found: dict[str, Made] = {}
        for number in self._inputs.find(identity):
            line = json.loads(self.read(number))
            if line["input"] != identity:
                continue
            card = Made(
                None,
                fingerprint=self._settings.get(line.get("fingerprint", "")),
                source=line.get("state"),
                problem=line.get("problem", ""),
            )
            for output, path in line["outputs"].items():
                file = self._folder / path
                if self._owners.find(path)[-1] == number and file.exists():
                    state, sha256 = line.get("files", {}).get(output, (None, ""))
                    found[output] = replace(card, path=file, state=state, sha256=sha256)
            keys = _keys_of(line)
            for output in line.get("cards", ()):
                # The name of another input may be the same, if it was searched for in another folder.
                if output not in keys or self._owners.find(_owned(output, keys[output]))[-1] == number:
                    found[output] = replace(card, key=keys.get(output))
                else:
                    found.pop(output, None)
        return found


def _keys_of(line: Mapping[str, Any]) -> dict[str, str]:
    """The keys of the parts of a line, by their outputs. Lines of an earlier release do not have them."""
    cards = line.get("cards")
    return cards if isinstance(cards, dict) else {}


def _owned(output: str, key: str) -> str:
    """A part as a text that no path is."""
    return f"{output}\0{key}"


def _parsed(text: bytes) -> dict[str, Any] | None:
    """The content of a line; None for another one, such as one that a killed process has torn."""
    try:
        line = json.loads(text) if text != b"\n" else None
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and _is_line(line) else None


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
        and isinstance(cards, list | dict)
        and all(isinstance(card, str) for card in (*cards, *_keys_of(line).values()))
    )


def _is_inside(path: Any) -> bool:
    """Whether a path names something inside the output folder."""
    return (
        isinstance(path, str)
        and is_possible(path)
        and not os.path.isabs(path)  # noqa: PTH117 - a Path for each of millions would take most of the time
        and path != "."
        and (".." not in path or ".." not in Path(path).parts)
    )


def _is_file(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_state(value[0]) and isinstance(value[1], str)


def _is_state(value: Any) -> bool:
    return value is None or (isinstance(value, list) and [type(part) for part in value] == [int, int])
