"""Images and labels of a release that says itself which belong together."""

from collections.abc import Mapping

from .release import Example
from .source import Source

Side = Mapping[tuple[str, str], str]
"""Split and name -> member."""


def join(
    source: Source, images: Side, labels: Side, label_kind: str
) -> tuple[list[Example], list[str], list[str]]:
    """Examples in the order of their names; notes; problems.

    A part of which only the images or only the labels are there was not downloaded and is left out; a single
    file without its other half is a problem.
    """
    parts = {split for split, _ in images.keys() & labels.keys()}
    examples, notes, problems = [], [], []
    for split in sorted({split for split, _ in (*images, *labels)} - parts):
        there = sum(key[0] == split for key in (*images, *labels))
        missing = "images" if any(key[0] == split for key in labels) else f"{label_kind}s"
        notes.append(f"The {split} part has no {missing}, so its {there} files are left out.")
    for key in sorted(images.keys() | labels.keys()):
        split, name = key
        if split not in parts:
            continue
        if key not in labels:
            problems.append(f"{source.where(images[key])} has no {label_kind}.")
        elif key not in images:
            problems.append(f"{source.where(labels[key])} has no image.")
        else:
            examples.append(Example(name, labels[key], images[key], split))
    return examples, notes, problems
