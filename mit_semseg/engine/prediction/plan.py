"""What a call of test.py has to do: each input with the files to make of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ...errors import UserError
from ...report.predictions import card_key
from ...video import is_own_video
from ...visualize import is_own_picture
from ..outputs import place
from .inputs import Input, find_inputs
from .made import Made, identity
from .page import known_cards
from .writers import OUTPUTS, PAGE


@dataclass(frozen=True)
class Job:
    """An input, and the file of each of its outputs."""

    input: Input
    targets: dict[str, Path]


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        jobs: all of them, in the order of the command line.
        done: the places among them of those that an earlier run has done.
        problems: what is wrong with those that can't be done.
        own: how many pictures were left out because test.py has made them.
    """

    jobs: list[Job]
    done: frozenset[int]
    problems: dict[int, str]
    own: int

    def todo(self) -> list[int]:
        """The places of the jobs to do."""
        return [i for i in range(len(self.jobs)) if i not in self.done and i not in self.problems]

    def share(self, kind: str, rank: int, size: int) -> list[int]:
        """The places of those jobs of one kind that process ``rank`` of ``size`` has to do."""
        return [i for i in self.todo() if self.jobs[i].input.kind == kind][rank::size]


def make_plan(
    words: Sequence[str], names: Sequence[str], folder: Path, standard_input: TextIO | None, *, resume: bool
) -> Plan:
    """The jobs of a command line.

    Pictures and videos that test.py has made are no inputs, in whatever way they are named. What something
    else has made in the output folder is not replaced.

    Args:
        words: of ``--imgs``.
        names: the outputs wanted.
        folder: for the outputs.
        resume: jobs whose outputs are all there count as done, and all keep the names that they had.

    Raises: UserError for inputs that are not there, and if no input has the outputs.
    """
    found = find_inputs(words, standard_input)
    inputs = [each for each in found if not _is_own(each)]
    if not inputs:
        raise UserError(f"What is named are results of test.py itself ({len(found)}). Name other images.")
    problems = _without_outputs(inputs, names)
    if len(problems) == len(inputs):
        raise UserError(problems[0])
    made = Made(folder).targets() if resume else {}
    files = [name for name in names if name != PAGE]
    suffixes = [[_suffix(each, name) for name in files] for each in inputs]
    below = [_free(each, folder, ends) for each, ends in zip(inputs, suffixes, strict=True)]
    kept = {path for targets in made.values() for path in targets.values()}
    paths = place(
        [each.path for each in inputs],
        below,
        suffixes,
        folder,
        lambda path: path in kept or _is_foreign(path),
    )
    cards = known_cards(folder) if resume and PAGE in names else None
    jobs, done = [], set()
    for i, (each, new) in enumerate(zip(inputs, paths, strict=True)):
        old = made.get(identity(each.path), {}) if each.kind != "camera" else {}
        jobs.append(Job(each, dict(zip(files, new, strict=True)) | {k: old[k] for k in files if k in old}))
        has_card = cards is None or card_key(each.path) in cards
        if resume and has_card and old.keys() >= set(files):
            done.add(i)
    return Plan(jobs, frozenset(done), problems, own=len(found) - len(inputs))


def _suffix(each: Input, name: str) -> str:
    return OUTPUTS[name].suffix if each.kind == "image" else OUTPUTS[name].video_suffix


def _without_outputs(inputs: Sequence[Input], names: Sequence[str]) -> dict[int, str]:
    """What is wrong with the videos, by their places, if an output is wanted that videos do not have."""
    refused = [name for name in names if name != PAGE and not OUTPUTS[name].video_suffix]
    if not refused:
        return {}
    good = ", ".join(name for name, output in OUTPUTS.items() if output.video_suffix)
    return {
        i: f"{each.path if each.kind == 'video' else f'Camera {each.path}'} is a video, of which there is no "
        f"output {' or '.join(refused)}, only {good} and {PAGE}. Change TEST.output, or save its frames as "
        "images first."
        for i, each in enumerate(inputs)
        if each.kind != "image"
    }


def _is_own(each: Input) -> bool:
    """Whether an input is an output of an earlier run."""
    suffix = Path(each.path).suffix.lower()
    if each.kind == "video":
        return suffix == ".mp4" and is_own_video(Path(each.path))
    return suffix == ".png" and is_own_picture(Path(each.path))


def _is_foreign(path: Path) -> bool:
    """Whether a path is taken by a picture or a video of somebody else's."""
    if not path.exists():
        return False
    if path.suffix == ".png":
        return not is_own_picture(path)
    return path.suffix == ".mp4" and not is_own_video(path)


def _free(each: Input, folder: Path, suffixes: Sequence[str]) -> Path:
    """An input's place below the output folder; that of a camera is new, since it can't be recorded again."""
    below, number = each.below, 1
    while each.kind == "camera" and any((folder / f"{below}{suffix}").exists() for suffix in suffixes):
        number += 1
        below = Path(f"{each.below}_{number}")
    return below
