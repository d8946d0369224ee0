"""The jobs of a call of test.py: each input with the files to make from it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image

from ..data.files import is_video, naming
from ..data.shards import state_of_content
from ..errors import UserError
from ..inference.fingerprint import Fingerprint, difference
from ..inference.pictures import is_own_picture
from ..runtime.output_paths import unique_paths
from ..runtime.paths import Resolver
from .collected import COLLECTED, PAGE, known_parts
from .inputs import Input
from .manifest import Made, Manifest, State
from .tools.labelme import is_untouched
from .video_reader import is_own_video, open_video
from .writers import LABELS, OUTPUTS

_AS_IMAGES = ", or save the frames as images"
_KINDS = {  # of inputs: a noun, its plural, and what else to do if they lack an output
    "image": ("a plain image", "Plain images", ""),
    "scene": ("a GeoTIFF or a very large TIFF", "These", ""),
    "video": ("a video", "Videos", _AS_IMAGES),
    "camera": ("a video", "Videos", _AS_IMAGES),
}


@dataclass(frozen=True, slots=True)
class Job:
    """An input, and the file of each of its outputs.

    Attributes:
        state: of the input before it is read; None for a camera, or if it does not exist.
        name: of the input in files of labelling tools: its path below the folder that was searched, or its
            whole path if that is the name of several inputs.
    """

    input: Input
    targets: dict[str, Path]
    state: State = None
    name: str = ""

    def key(self, output: str) -> str:
        """Of the input's part in a file of `COLLECTED`."""
        return COLLECTED[output].key(self.input.path, self.name)


@dataclass(frozen=True)
class Jobs:
    """The jobs of a command line. They are numbered from 0.

    Attributes:
        all: in the order of the command line.
        done: the numbers of the jobs that an earlier run has done.
        problems: a sentence for each job that cannot be done, or was done in part, by its number.
        own_results: how many of the inputs were skipped because test.py had made them.
        kept: the files of LabelMe that people have drawn or corrected, which are kept as they are.
        again: how many jobs are done again, by the reason, a sentence on these inputs.
    """

    all: list[Job]
    done: frozenset[int]
    problems: dict[int, str]
    own_results: int = 0
    kept: tuple[Path, ...] = ()
    again: Counter[str] = field(default_factory=Counter)

    def pending(self) -> list[int]:
        """The numbers of the jobs to do."""
        return [k for k in range(len(self.all)) if k not in self.done and k not in self.problems]

    def share(self, kind: str, rank: int, size: int) -> list[int]:
        """The numbers of the jobs of one kind of input that process ``rank`` of ``size`` has to do."""
        return [k for k in self.pending() if self.all[k].input.kind == kind][rank::size]


def find_jobs(
    found: Sequence[Input], outputs: Sequence[str], folder: Path, fingerprint: Fingerprint, *, resume: bool
) -> Jobs:
    """The jobs for inputs.

    Pictures and videos that test.py has made are not inputs, however they are named. Files in the output
    folder that something else has made are not overwritten.

    Args:
        outputs: the names of the outputs.
        folder: of the outputs.
        fingerprint: of the prediction.
        resume: skip inputs of which the folder has all outputs, made in the same way, and keep the names of
            existing outputs.

    Raises: UserError if all inputs are results, or if no input can have the outputs.
    """
    inputs = [each for each in found if not _is_own(each)]
    if not inputs:
        raise UserError(f"All inputs ({len(found)}) are results of test.py itself. Name other images.")
    outputs_of = [_outputs_of(each, outputs) for each in inputs]
    problems = _without_outputs(inputs, outputs)
    if len(problems) == len(inputs):
        raise UserError(problems[0])
    recorded = Manifest(folder).made() if resume else {}
    files, kept = _files_to_write(inputs, outputs_of, folder)
    suffixes = [[_suffix(each, name) for name in of_one] for each, of_one in zip(inputs, files, strict=True)]
    own = {made.path for outputs in recorded.values() for made in outputs.values()}
    paths = unique_paths(
        [each.path for each in inputs],
        [_relative_path(each, folder, ends) for each, ends in zip(inputs, suffixes, strict=True)],
        suffixes,
        folder,
        lambda path: path in own or _is_foreign(path),
    )
    collected = [name for name in outputs if name in COLLECTED]
    parts = {name: known_parts(folder, name) if resume else set() for name in collected}
    names = Counter(each.relative for each in inputs)
    real = Resolver()
    jobs, done, again = [], set(), Counter[str]()
    for k, (each, new) in enumerate(zip(inputs, paths, strict=True)):
        state = state_of_content(each.path) if each.kind != "camera" else None
        old = recorded.get(each.identity_by(real), {})
        own_paths = {
            name: made.path for name, made in old.items() if made.path and not _is_of_others(made.path)
        }
        targets = {name: own_paths.get(name, path) for name, path in zip(files[k], new, strict=True)}
        name = each.relative.as_posix() if names[each.relative] == 1 else Path(each.path).as_posix()
        job = Job(each, targets, state, name)
        jobs.append(job)
        if not targets and not collected:
            done.add(k)
        if not old or k in problems or k in done:
            continue
        for output in collected:
            if output in old and job.key(output) not in parts[output]:
                del old[output]
        reason = _reason_to_repeat(old, [*targets, *collected], state, fingerprint)
        if reason:
            again[reason] += 1
            continue
        done.add(k)
        for made in old.values():
            if made.problem:
                problems[k] = made.problem
    return Jobs(jobs, frozenset(done), problems, len(found) - len(inputs), tuple(kept), again)


def _files_to_write(
    inputs: Sequence[Input], outputs_of: Sequence[Sequence[str]], folder: Path
) -> tuple[list[list[str]], list[Path]]:
    """The outputs of each input that are files of their own, and the files of LabelMe to keep.

    LabelMe finds the labels of an image by their name, so those of a person stay, and are not joined by
    another file.
    """
    files, kept = [], []
    for each, outputs in zip(inputs, outputs_of, strict=True):
        own = [name for name in outputs if name not in COLLECTED]
        if "labelme" in own and each.kind == "image":
            path = (folder / each.relative).with_suffix(OUTPUTS["labelme"].suffix)
            if path.exists() and not is_untouched(path):
                own.remove("labelme")
                kept.append(path)
        files.append(own)
    return files, kept


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
        if change := difference(each.fingerprint, fingerprint):
            return f"their outputs were made in another way ({change})"
    if any(each.source != state for each in made):
        return "they have changed since"
    if len(made) < len(outputs) or not all(each.is_intact() for each in made):
        return "outputs of them are missing, or have changed since"
    return ""


def _is_own(each: Input) -> bool:
    """Whether an input is an output of an earlier run."""
    suffix = Path(each.path).suffix.lower()
    if each.kind == "video":
        return suffix == ".mp4" and is_own_video(Path(each.path))
    return suffix in (".png", ".tif") and is_own_picture(Path(each.path))


def is_result(path: str) -> bool:
    """Whether a file that is not an image is an output of an earlier run."""
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
        or (path.endswith(OUTPUTS["labelme"].suffix) and is_untouched(Path(path)))
        or (is_video(path) and _is_own(Input(path, "video", Path())))
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


def _is_of_others(path: Path) -> bool:
    """Whether the file of an output has been replaced by somebody's picture or video."""
    if not _is_foreign(path):
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


def _outputs_of(each: Input, outputs: Sequence[str]) -> list[str]:
    """The outputs of an input. A scene always has its labels, because its pictures are reduced."""
    more = [LABELS] if each.kind == "scene" and LABELS not in outputs else []
    return [*outputs, *more]


def _without_outputs(inputs: Sequence[Input], outputs: Sequence[str]) -> dict[int, str]:
    """A sentence for each input, by its number, whose kind does not have one of the outputs."""
    problems = {}
    for k, each in enumerate(inputs):
        refused = [name for name in outputs if not _has(each, name)]
        if refused:
            possible = ", ".join(name for name in OUTPUTS if name != PAGE and _has(each, name))
            is_kind, kinds, hint = _KINDS[each.kind]
            source = f"Camera {each.path}" if each.kind == "camera" else each.path
            problems[k] = (
                f"{source} is {is_kind}. {kinds} have no output {' or '.join(refused)}, only {possible} and "
                f"{PAGE}. Change TEST.output{hint}."
            )
    return problems


def _has(each: Input, name: str) -> bool:
    """Whether inputs of this kind have an output."""
    return name == PAGE or (name in COLLECTED and each.kind == "image") or bool(_suffix(each, name))


def _suffix(each: Input, name: str) -> str:
    """The end of an output's name; "" if inputs of this kind do not have it."""
    output = OUTPUTS[name]
    if each.kind == "image":
        return output.suffix
    return output.scene_suffix if each.kind == "scene" else output.video_suffix


def _relative_path(each: Input, folder: Path, suffixes: Sequence[str]) -> Path:
    """An input's path relative to the output folder. That of a camera is new: its videos are not replaced."""
    path, number = each.relative, 1
    while each.kind == "camera" and any((folder / f"{path}{suffix}").exists() for suffix in suffixes):
        number += 1
        path = Path(f"{each.relative}_{number}")
    return path
