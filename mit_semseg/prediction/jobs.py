"""The jobs of a call of test.py: each input with the files to make from it."""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ..data.files import extension, is_video, naming
from ..data.shards import state_of_content
from ..errors import UserError
from ..inference.fingerprint import Fingerprint, difference
from ..inference.pictures import is_own_picture
from ..runtime.files import state_of
from ..runtime.output_paths import Wanted, other_names, plain_name
from ..runtime.paths import Resolver, length_before
from ..runtime.texts import NumberedTexts, first_equals
from .collected import COLLECTED, PAGE, Parts
from .inputs import Input, Inputs, Kind
from .manifest import Made, Manifest, Recorded, State
from .tools.labelme import is_untouched
from .video_reader import is_own_video, open_video
from .writers import LABELS, OUTPUTS, TOOLS

_AS_IMAGES = ", or save the frames as images"
# For a kind of input: a noun, its plural, and what else to do if it lacks an output.
_WORDS: dict[Kind, tuple[str, str, str]] = {
    "image": ("a plain image", "Plain images", ""),
    "scene": ("a GeoTIFF or a very large TIFF", "These", ""),
    "video": ("a video", "Videos", _AS_IMAGES),
    "camera": ("a video", "Videos", _AS_IMAGES),
}


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
                if name not in COLLECTED and (suffix := _suffix(kind, name))
            }
            for kind in _WORDS
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


def find_jobs(
    found: Inputs, outputs: Sequence[str], folder: Path, fingerprint: Fingerprint, *, resume: bool
) -> Jobs:
    """The jobs for inputs.

    Pictures and videos that test.py has made are not inputs, however they are named. Pictures, videos and
    LabelMe files in the output folder that something else has made, or a person has changed, are not
    overwritten.

    Args:
        outputs: the names of the outputs.
        folder: of the outputs.
        fingerprint: of the prediction.
        resume: skip inputs of which the folder has all outputs, made in the same way, and keep the names of
            existing outputs.

    Raises: UserError if all inputs are results, or if no input can have the outputs.
    """
    inputs = _without_own(found)
    count = len(inputs)
    problems = _without_outputs(inputs, outputs)
    if len(problems) == count:
        raise UserError(problems[0])
    slots = Slots.of(outputs)
    jobs = Jobs(inputs, folder, slots, np.zeros(count, bool), problems, np.zeros(count, bool))
    jobs.own_results = len(found) - count
    for k in np.flatnonzero(inputs.of_kind("camera")).tolist():
        jobs.cameras[k] = _new_name(inputs.relative(k), folder, [*slots.suffixes["camera"].values()])
    if {*TOOLS} & {*outputs}:
        jobs.named_whole = np.zeros(count, bool)
        # Repeated, because the whole path of one may be the name of another.
        while (shared := _repeated(count, jobs.name) & ~jobs.named_whole).any():
            jobs.named_whole |= shared
    settled = bytearray(count * len(slots.places))

    def wanted() -> Iterator[Wanted]:
        for k in range(count):
            relative = jobs.relative(k)
            for output, suffix in jobs.files(k):
                yield Wanted(slots.number(k, output), relative, suffix)

    length = length_before(folder)

    def is_taken(path: str) -> bool:
        return recorded.has(path[length:].replace(os.sep, "/")) or _is_foreign(Path(path))

    with Manifest(folder).recorded() if resume else Recorded(folder) as recorded:
        if resume or "labelme" in outputs:
            parts: dict[str, Parts | set[str]] = {
                name: Parts(folder, name, earlier=True) if resume else set[str]()
                for name in outputs
                if name in COLLECTED
            }
            _look_up(jobs, recorded, parts, fingerprint, settled)
        jobs.others = other_names(
            inputs.paths, wanted, folder, is_taken, lambda number: bool(settled[number])
        )
    return jobs


def _repeated(count: int, text: Callable[[int], str]) -> NDArray[np.bool_]:
    """Whether each text occurs more than once."""
    first = first_equals(count, text)
    shared: NDArray[np.bool_] = np.bincount(first, minlength=count)[first] > 1
    return shared


def _look_up(
    jobs: Jobs,
    recorded: Recorded,
    parts: Mapping[str, Parts | set[str]],
    fingerprint: Fingerprint,
    settled: bytearray,
) -> None:
    """Set what jobs have from earlier runs.

    Args:
        parts: the keys of the parts that exist, by the outputs with a file for all inputs.
        settled: by the number of an output, whether it keeps its earlier file; to be set.
    """
    real, length = Resolver(), length_before(jobs.folder)
    for k in range(len(jobs)):
        kind = jobs.inputs.kind(k)
        old = recorded.of(jobs.inputs.identity(k, real)) if kind != "camera" else {}
        if kind == "image" and "labelme" in jobs.slots.suffixes[kind]:
            path = jobs.labelme_path(k)
            jobs.kept[k] = path.exists() and not _is_same(old.get("labelme"), path) and not is_untouched(path)
        files = dict(jobs.files(k))
        for output, suffix in files.items():
            earlier = old.get(output)
            if earlier is not None and earlier.path is not None and not _is_of_others(earlier):
                number, name = jobs.slots.number(k, output), str(earlier.path)[length:]
                settled[number] = 1
                if name != plain_name(jobs.relative(k), suffix):
                    jobs.earlier.add(number, name)
        if k in jobs.problems:
            continue
        if not files and not parts:
            jobs.done[k] = True
        elif old:
            for output, keys in parts.items():
                if output in old:
                    key = jobs.key(output, k)
                    if key not in keys or old[output].key not in (key, None):
                        del old[output]
            state = state_of_content(jobs.inputs.paths[k])
            if reason := _reason_to_repeat(old, [*files, *parts], state, fingerprint):
                jobs.again[reason] += 1
                continue
            jobs.done[k] = True
            for made in old.values():
                if made.problem:
                    jobs.problems[k] = made.problem


def _reason_to_repeat(
    old: Mapping[str, Made], outputs: Sequence[str], state: State, fingerprint: Fingerprint
) -> str:
    """Why inputs such as this are done again, as a sentence; "" if all its outputs are as they would be made.

    Args:
        old: the recorded outputs.
        state: of the input.
    """
    made = [old[name] for name in outputs if name in old]
    for each in made:
        if each.fingerprint is None or each.source is None:
            return "an earlier release has made their outputs, without a record of how"
        if each.fingerprint != fingerprint and (change := difference(each.fingerprint, fingerprint)):
            return f"their outputs were made in another way ({change})"
    if any(each.source != state for each in made):
        return "they have changed since"
    if len(made) < len(outputs) or not all(each.is_intact() for each in made):
        return "outputs of them are missing, or have changed since"
    return ""


def _without_own(found: Inputs) -> Inputs:
    """Inputs without those that are outputs of an earlier run. Raises: UserError if no other is left."""
    others = array("q", (k for k in range(len(found)) if not _is_own(found.paths[k], found.kind(k))))
    if not others:
        raise UserError(f"All inputs ({len(found)}) are results of test.py itself. Name other images.")
    if len(others) == len(found):
        return found
    inputs = Inputs()
    inputs.add_all(found, others)
    return inputs


def _is_own(path: str, kind: Kind) -> bool:
    """Whether an input is an output of an earlier run."""
    suffix = extension(path)
    if kind == "video":
        return suffix == ".mp4" and is_own_video(Path(path))
    return suffix in (".png", ".tif") and is_own_picture(Path(path))


def is_result(path: str) -> bool:
    """Whether a file that is not an image has the name of an output, or is a video of an earlier run."""
    name = Path(path).name
    others = (
        suffix
        for output in OUTPUTS.values()
        if output.draw is None
        for suffix in (output.suffix, output.scene_suffix)
        if suffix and not suffix.endswith((".png", ".tif"))
    )
    return (
        name in {kind.file for kind in COLLECTED.values()}
        or name.endswith(tuple(others))
        or (is_video(path) and _is_own(path, "video"))
    )


def _is_foreign(path: Path) -> bool:
    """Whether a picture or a video exists there that test.py has not made."""
    if not path.exists():
        return False
    if path.suffix in (".png", ".tif"):
        return not is_own_picture(path)
    if path.suffix == OUTPUTS["labelme"].suffix:
        return not is_untouched(path)
    return path.suffix == ".mp4" and not is_own_video(path)


def _is_same(made: Made | None, path: Path) -> bool:
    """Whether a file is a recorded output, to judge by its state."""
    return made is not None and made.path == path and made.state is not None and made.state == state_of(path)


def _is_of_others(made: Made) -> bool:
    """Whether the file of an output has been replaced by somebody's picture, video or LabelMe file."""
    path = made.path
    assert path is not None
    if _is_same(made, path) or not _is_foreign(path):
        return False
    try:
        if path.suffix == OUTPUTS["labelme"].suffix:
            return True
        if path.suffix == ".mp4":
            with open_video(str(path)):
                return True
        with naming(path), PIL.Image.open(path):
            return True
    except UserError:  # the output itself, damaged
        return False


def _outputs_of(kind: Kind, outputs: Sequence[str]) -> list[str]:
    """The outputs of a kind of input. A scene always has its labels, because its pictures are reduced."""
    more = [LABELS] if kind == "scene" and LABELS not in outputs else []
    return [*outputs, *more]


def _without_outputs(inputs: Inputs, outputs: Sequence[str]) -> dict[int, str]:
    """A sentence for each input, by its number, whose kind does not have one of the outputs."""
    problems = {}
    for kind in inputs.kinds():
        refused = [name for name in outputs if not _has(kind, name)]
        if not refused:
            continue
        possible = ", ".join(name for name in OUTPUTS if name != PAGE and _has(kind, name))
        is_kind, kinds, hint = _WORDS[kind]
        for k in np.flatnonzero(inputs.of_kind(kind)).tolist():
            source = f"Camera {inputs.paths[k]}" if kind == "camera" else inputs.paths[k]
            problems[k] = (
                f"{source} is {is_kind}. {kinds} have no output {' or '.join(refused)}, only {possible} and "
                f"{PAGE}. Change TEST.output{hint}."
            )
    return dict(sorted(problems.items()))


def _has(kind: Kind, name: str) -> bool:
    """Whether inputs of this kind have an output."""
    return name == PAGE or (name in COLLECTED and kind == "image") or bool(_suffix(kind, name))


def _suffix(kind: Kind, name: str) -> str:
    """The end of an output's name; "" if inputs of this kind do not have it."""
    output = OUTPUTS[name]
    if kind == "image":
        return output.suffix
    return output.scene_suffix if kind == "scene" else output.video_suffix


def _new_name(relative: str, folder: Path, suffixes: Sequence[str]) -> str:
    """The path of a camera relative to the output folder. It is new: earlier videos are not replaced."""
    path, number = relative, 1
    while any((folder / f"{path}{suffix}").exists() for suffix in suffixes):
        number += 1
        path = f"{relative}_{number}"
    return path
