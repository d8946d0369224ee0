"""The jobs of a call of test.py: each input with the files to make from it."""

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.shards import state_of_content
from ..runtime.output_paths import plain_name
from ..runtime.texts import NumberedTexts
from .collected import COLLECTED
from .inputs import KINDS, Input, Inputs, Kind
from .manifest import State
from .writers import LABELS, OUTPUTS


@dataclass(frozen=True, slots=True)
class Job:
    """An input, and the file of each of its outputs.

    Attributes:
        name: of the input in files of labelling tools: its path below the folder that was searched, or its
            whole path if that is also the name of another input.
        state: of the input before it is read; None for a camera, or if it does not exist.
    """

    input: Input
    targets: dict[str, Path]
    name: str = ""
    state: State = None

    def key(self, output: str) -> str:
        """Of the input's part in a file of `COLLECTED`."""
        return COLLECTED[output].key(self.input.path, self.name)


@dataclass(frozen=True)
class Slots:
    """The files that an input of each kind gets.

    Attributes:
        suffixes: by the kind of input: the outputs that are a file of its own, and their suffixes.
        places: the place of each output among all.
    """

    suffixes: dict[Kind, dict[str, str]]
    places: dict[str, int]

    @classmethod
    def of(cls, outputs: Sequence[str]) -> "Slots":
        suffixes = {
            kind: {
                name: suffix
                for name in _outputs_of(kind, outputs)
                if name not in COLLECTED and (suffix := suffix_of(kind, name))
            }
            for kind in KINDS
        }
        return cls(suffixes, {name: place for place, name in enumerate(dict.fromkeys([*outputs, LABELS]))})

    def number(self, k: int, output: str) -> int:
        """The number of an output of input k, which no other output has. It grows with k."""
        return k * len(self.places) + self.places[output]


@dataclass
class Jobs:
    """The jobs of a command line, numbered from 0, in columns: a `Job` is made when it is due.

    Attributes:
        inputs: in the order of the command line.
        folder: of the outputs.
        slots: the files of each input.
        done: whether an earlier run has done each job.
        problems: a sentence for each job that cannot be done, or was done in part, by its number.
        own_results: how many of the inputs were skipped because test.py had made them.
        kept: whether each input has a file of LabelMe that a person has drawn or corrected, so that it stays.
        again: how many jobs are done again, by the reason, a sentence on these inputs.
        named_whole: whether the name of each input in files of labelling tools is its whole path.
        cameras: the relative path of each camera, by its number.
        earlier, others: the outputs, by their numbers in ``slots``, that have another name than `plain_name`:
            one of an earlier run, or because that name is taken.
    """

    inputs: Inputs
    folder: Path
    slots: Slots
    done: NDArray[np.bool_]
    problems: dict[int, str]
    kept: NDArray[np.bool_]
    own_results: int = 0
    again: Counter[str] = field(default_factory=Counter)
    named_whole: NDArray[np.bool_] | None = None
    cameras: dict[int, str] = field(default_factory=dict)
    earlier: NumberedTexts = field(default_factory=NumberedTexts)
    others: NumberedTexts = field(default_factory=NumberedTexts)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, k: int) -> Job:
        return Job(self.inputs[k], self.targets(k), self.name(k))

    def reached(self, k: int) -> Job:
        """The job with the state of its input now, which is before it is read."""
        job = self[k]
        return job if job.input.kind == "camera" else replace(job, state=state_of_content(job.input.path))

    def targets(self, k: int) -> dict[str, Path]:
        """The file of each output of an input."""
        found = {}
        relative = self.relative(k)
        for output, suffix in self.files(k):
            number = self.slots.number(k, output)
            name = self.earlier.get(number) or self.others.get(number) or plain_name(relative, suffix)
            found[output] = self.folder / name
        return found

    def files(self, k: int) -> Iterator[tuple[str, str]]:
        """The outputs of an input that are a file of its own, and their suffixes."""
        for output, suffix in self.slots.suffixes[self.inputs.kind(k)].items():
            if output != "labelme" or not self.kept[k]:
                yield output, suffix

    def labelme_path(self, k: int) -> Path:
        """Where LabelMe looks for the labels of an image if all files are in the output folder."""
        return self.folder / plain_name(self.relative(k), OUTPUTS["labelme"].suffix)

    def relative(self, k: int) -> str:
        """The path of the outputs of an input relative to the output folder, with the input's extension."""
        return self.cameras.get(k) or self.inputs.relative(k)

    def name(self, k: int) -> str:
        """`Job.name`."""
        if self.named_whole is not None and self.named_whole[k]:
            return Path(self.inputs.paths[k]).as_posix()
        return self.inputs.relative(k).replace(os.sep, "/")

    def key(self, output: str, k: int) -> str:
        """`Job.key`."""
        return COLLECTED[output].key(self.inputs.paths[k], self.name(k))

    def pending(self) -> NDArray[np.bool_]:
        """Whether each job has to be done."""
        pending = ~self.done
        pending[list(self.problems)] = False
        return pending

    def share(self, kind: Kind, rank: int, size: int) -> Sequence[int]:
        """The numbers of the jobs of one kind of input that process ``rank`` of ``size`` has to do."""
        numbers = np.flatnonzero(self.pending() & self.inputs.of_kind(kind))[rank::size]
        return array("q", numbers.tobytes())  # a list would need five times as much


def _outputs_of(kind: Kind, outputs: Sequence[str]) -> list[str]:
    """The outputs of a kind of input. A scene always has its labels, because its pictures are reduced."""
    more = [LABELS] if kind == "scene" and LABELS not in outputs else []
    return [*outputs, *more]


def suffix_of(kind: Kind, name: str) -> str:
    """The end of an output's name; "" if inputs of this kind do not have it."""
    output = OUTPUTS[name]
    if kind == "image":
        return output.suffix
    return output.scene_suffix if kind == "scene" else output.video_suffix
