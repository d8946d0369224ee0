"""What a call of test.py has to do: each input with the files to make of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..errors import UserError
from ..report.predictions import card_key
from ..video import is_own_video
from ..visualize import is_own_picture
from .inputs import Input, find_inputs
from .outputs import place
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
        own: how many pictures were left out because test.py has made them.
    """

    jobs: list[Job]
    done: frozenset[int]
    own: int

    def share(self, kind: str, rank: int, size: int) -> list[int]:
        """The places of those jobs of one kind that process ``rank`` of ``size`` has to do."""
        todo = [i for i, job in enumerate(self.jobs) if job.input.kind == kind and i not in self.done]
        return todo[rank::size]


def make_plan(
    words: Sequence[str], names: Sequence[str], folder: Path, standard_input: TextIO | None, *, resume: bool
) -> Plan:
    """The jobs of a command line.

    Pictures and videos in the output folder that an earlier run has made are no inputs, in whatever way they
    are named. Those in it that something else has made are not replaced.

    Args:
        words: of ``--imgs``.
        names: the outputs wanted.
        folder: for the outputs.
        resume: jobs whose outputs are all there count as done.

    Raises: UserError for inputs that are not there, and outputs that videos can't have.
    """
    found = find_inputs(words, standard_input)
    inputs = [each for each in found if not _is_own(each, folder)]
    if not inputs:
        raise UserError(f"What is named are results of test.py itself ({len(found)}). Name other images.")
    _check_videos(inputs, names)
    suffixes = [[_suffix(each, name) for name in names if name != PAGE] for each in inputs]
    below = [_free(each, folder, ends) for each, ends in zip(inputs, suffixes, strict=True)]
    paths = place([each.path for each in inputs], below, suffixes, folder, _is_foreign)
    files = [name for name in names if name != PAGE]
    jobs = [
        Job(each, dict(zip(files, targets, strict=True))) for each, targets in zip(inputs, paths, strict=True)
    ]
    done: frozenset[int] = frozenset()
    if resume:
        cards = known_cards(folder) if PAGE in names else None
        done = frozenset(i for i, job in enumerate(jobs) if _is_done(job, cards))
    return Plan(jobs, done, own=len(found) - len(inputs))


def _suffix(each: Input, name: str) -> str:
    return OUTPUTS[name].suffix if each.kind == "image" else OUTPUTS[name].video_suffix


def _check_videos(inputs: Sequence[Input], names: Sequence[str]) -> None:
    refused = [name for name in names if name != PAGE and not OUTPUTS[name].video_suffix]
    video = next((each for each in inputs if each.kind != "image"), None)
    if video is None or not refused:
        return
    what = video.path if video.kind == "video" else f"Camera {video.path}"
    good = ", ".join(name for name, output in OUTPUTS.items() if output.video_suffix)
    raise UserError(
        f"{what} is a video, of which there is no output {' or '.join(refused)}, only {good} and {PAGE}. "
        f"Change TEST.output, or save its frames as images first."
    )


def _is_own(each: Input, folder: Path) -> bool:
    """Whether an input is an output of an earlier run into the same folder."""
    path = Path(each.path)
    if path.suffix.lower() not in (".png", ".mp4") or not path.resolve().is_relative_to(folder.resolve()):
        return False
    return is_own_video(path) if each.kind == "video" else is_own_picture(path)


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


def _is_done(job: Job, cards: set[str] | None) -> bool:
    if cards is not None and card_key(job.input.path) not in cards:
        return False
    return all(path.exists() for path in job.targets.values())
