"""The jobs for the inputs of a call of test.py, with what earlier calls have already done."""

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..inference.fingerprint import Fingerprint
from ..runtime.output_paths import Wanted, other_names
from ..runtime.paths import length_before
from ..runtime.texts import first_equals
from .collected import COLLECTED, PAGE, Parts
from .earlier import look_up
from .inputs import Inputs, Kind
from .jobs import Jobs, Slots, suffix_of
from .manifest import Manifest, Recorded
from .own_files import is_foreign, is_own
from .writers import OUTPUTS, TOOLS

_AS_IMAGES = ", or save the frames as images"
# For a kind of input: a noun, its plural, and what else to do if it lacks an output.
_WORDS: dict[Kind, tuple[str, str, str]] = {
    "image": ("a plain image", "Plain images", ""),
    "scene": ("a GeoTIFF or a very large TIFF", "These", ""),
    "video": ("a video", "Videos", _AS_IMAGES),
    "camera": ("a video", "Videos", _AS_IMAGES),
}


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
        return recorded.has(path[length:].replace(os.sep, "/")) or is_foreign(Path(path))

    with Manifest(folder).recorded() if resume else Recorded(folder) as recorded:
        if resume or "labelme" in outputs:
            parts: dict[str, Parts | set[str]] = {
                name: Parts(folder, name, earlier=True) if resume else set[str]()
                for name in outputs
                if name in COLLECTED
            }
            look_up(jobs, recorded, parts, fingerprint, settled)
        jobs.others = other_names(
            inputs.paths, wanted, folder, is_taken, lambda number: bool(settled[number])
        )
    return jobs


def _without_own(found: Inputs) -> Inputs:
    """Inputs without those that are outputs of an earlier run. Raises: UserError if no other is left."""
    others = array("q", (k for k in range(len(found)) if not is_own(found.paths[k], found.kind(k))))
    if not others:
        raise UserError(f"All inputs ({len(found)}) are results of test.py itself. Name other images.")
    if len(others) == len(found):
        return found
    inputs = Inputs()
    inputs.add_all(found, others)
    return inputs


def _repeated(count: int, text: Callable[[int], str]) -> NDArray[np.bool_]:
    """Whether each text occurs more than once."""
    first = first_equals(count, text)
    shared: NDArray[np.bool_] = np.bincount(first, minlength=count)[first] > 1
    return shared


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
    return name == PAGE or (name in COLLECTED and kind == "image") or bool(suffix_of(kind, name))


def _new_name(relative: str, folder: Path, suffixes: Sequence[str]) -> str:
    """The path of a camera relative to the output folder. It is new: earlier videos are not replaced."""
    path, number = relative, 1
    while any((folder / f"{path}{suffix}").exists() for suffix in suffixes):
        number += 1
        path = f"{relative}_{number}"
    return path
