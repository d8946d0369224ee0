"""The jobs of a call of test.py: each input with the files to make from it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image

from ..data.files import is_video, naming
from ..errors import UserError
from ..inference.fingerprint import Fingerprint, difference
from ..inference.pictures import is_own_picture
from ..report.predictions import card_key
from ..runtime.files import state_of
from ..runtime.output_paths import unique_paths
from .inputs import Input
from .manifest import Made, Manifest, State
from .page import NAME as PAGE_NAME
from .page import known_cards
from .video_reader import is_own_video, open_video
from .writers import LABELS, OUTPUTS, PAGE

_AS_IMAGES = ", or save the frames as images"
_KINDS = {  # of inputs: a noun, its plural, and what else to do if they lack an output
    "image": ("a plain image", "Plain images", ""),
    "scene": ("a GeoTIFF or a very large TIFF", "These", ""),
    "video": ("a video", "Videos", _AS_IMAGES),
    "camera": ("a video", "Videos", _AS_IMAGES),
}


@dataclass(frozen=True)
class Job:
    """An input, and the file of each of its outputs.

    Attributes:
        state: of the input before it is read; None for a camera, or if it does not exist.
    """

    input: Input
    targets: dict[str, Path]
    state: State = None


@dataclass(frozen=True)
class Jobs:
    """The jobs of a command line. They are numbered from 0.

    Attributes:
        all: in the order of the command line.
        done: the numbers of the jobs that an earlier run has done.
        problems: a sentence for each job that cannot be done, or was done in part, by its number.
        own_results: how many of the inputs were skipped because test.py had made them.
        again: how many jobs are done again, by the reason, a sentence on these inputs.
    """

    all: list[Job]
    done: frozenset[int]
    problems: dict[int, str]
    own_results: int = 0
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
    files_of = [[name for name in names if name != PAGE] for names in outputs_of]
    suffixes = [[_suffix(each, name) for name in files] for each, files in zip(inputs, files_of, strict=True)]
    own = {made.path for outputs in recorded.values() for made in outputs.values()}
    paths = unique_paths(
        [each.path for each in inputs],
        [_relative_path(each, folder, ends) for each, ends in zip(inputs, suffixes, strict=True)],
        suffixes,
        folder,
        lambda path: path in own or _is_foreign(path),
    )
    cards = known_cards(folder) if resume and PAGE in outputs else set()
    jobs, done, again = [], set(), Counter[str]()
    for k, (each, files, new) in enumerate(zip(inputs, files_of, paths, strict=True)):
        state = state_of(each.path) if each.kind != "camera" else None
        old = recorded.get(each.identity, {})
        kept = {name: made.path for name, made in old.items() if made.path and not _is_of_others(made.path)}
        jobs.append(
            Job(each, {name: kept.get(name, path) for name, path in zip(files, new, strict=True)}, state)
        )
        if not old or k in problems:
            continue
        if PAGE in old and card_key(each.path) not in cards:
            del old[PAGE]
        reason = _reason_to_repeat(old, outputs_of[k], state, fingerprint)
        if reason:
            again[reason] += 1
            continue
        done.add(k)
        for made in old.values():
            if made.problem:
                problems[k] = made.problem
    return Jobs(jobs, frozenset(done), problems, len(found) - len(inputs), again)


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
        name == PAGE_NAME
        or name.endswith(tuple(others))
        or (is_video(path) and _is_own(Input(path, "video", Path())))
    )


def _is_foreign(path: Path) -> bool:
    """Whether a picture or a video exists there that test.py has not made."""
    if not path.exists():
        return False
    if path.suffix in (".png", ".tif"):
        return not is_own_picture(path)
    return path.suffix == ".mp4" and not is_own_video(path)


def _is_of_others(path: Path) -> bool:
    """Whether the file of an output has been replaced by somebody's picture or video."""
    if not _is_foreign(path):
        return False
    try:
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
        refused = [name for name in outputs if name != PAGE and not _suffix(each, name)]
        if refused:
            possible = ", ".join(name for name in OUTPUTS if name != PAGE and _suffix(each, name))
            is_kind, kinds, hint = _KINDS[each.kind]
            source = f"Camera {each.path}" if each.kind == "camera" else each.path
            problems[k] = (
                f"{source} is {is_kind}. {kinds} have no output {' or '.join(refused)}, only {possible} and "
                f"{PAGE}. Change TEST.output{hint}."
            )
    return problems


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
