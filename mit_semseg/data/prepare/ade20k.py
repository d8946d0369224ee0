"""ADE20K as the 2016 scene parsing challenge released it: ADEChallengeData2016.

Layout: images/{training,validation}/ADE_*.jpg and annotations/{training,validation}/ADE_*.png, 8-bit gray, 0
for other objects and 1 to 150 for the classes of objectInfo150.txt. Source: sceneparsing.csail.mit.edu.
"""

import re

from ..classes import load_classes
from .joining import join
from .options import Options
from .release import TRAINING, VALIDATION, Release, nothing_found
from .source import Source
from .values import IndexLabels

_FILE = re.compile(
    r"(?:.*/)?(images|annotations)/(training|validation)/([^/]+)\.(jpg|jpeg|png)", re.IGNORECASE
)
_SPLITS = {"training": TRAINING, "validation": VALIDATION}


def read(source: Source, options: Options) -> Release:
    """The 150 classes, with their own values."""
    members = source.members()
    sides: dict[str, dict[tuple[str, str], str]] = {"images": {}, "annotations": {}}
    for member in members:
        match = _FILE.fullmatch(member)
        if match:
            side, split, name, _ = match.groups()
            sides[side.lower()][_SPLITS[split.lower()], name] = member
    images, labels = sides["images"], sides["annotations"]
    if not images.keys() & labels.keys():
        wanted = (
            "images/training/ADE_train_*.jpg with annotations/training/ADE_train_*.png (ADEChallengeData2016)"
        )
        raise nothing_found(source.path, wanted, members)
    examples, notes, problems = join(source, images, labels, "annotation")
    table = load_classes("", 150)
    return Release(
        examples,
        IndexLabels(),
        coding={value: value for value in range(151)},
        classes=table,
        values={k: (name, tuple(table.colors[k - 1].tolist())) for k, name in enumerate(table.names, 1)},
        notes=notes,
        problems=problems,
    )
