"""ADE20K as the 2016 scene parsing challenge released it: ADEChallengeData2016.

Layout: images/{training,validation}/ADE_*.jpg and annotations/{training,validation}/ADE_*.png, 8-bit gray, 0
for other objects and 1 to 150 for the classes of objectInfo150.txt. The project's ADE20K configs use this
release. Source: sceneparsing.csail.mit.edu.
"""

import re

from ....data.classes import load_classes
from ..labels import IndexLabels
from ..pairing import join
from ..release import TRAINING, VALIDATION, PrepareOptions, Release
from ..source import SourceFolder

_FILE = re.compile(
    r"(?:.*/)?(images|annotations)/(training|validation)/([^/]+)\.(jpg|jpeg|png)", re.IGNORECASE
)
_SPLITS = {"training": TRAINING, "validation": VALIDATION}


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The 150 classes; value k is class k."""
    members = source.members
    files: dict[str, dict[tuple[str, str], str]] = {"images": {}, "annotations": {}}
    for member in members:
        match = _FILE.fullmatch(member)
        if match:
            kind, split, name, _ = match.groups()
            files[kind.lower()][_SPLITS[split.lower()], name] = member
    images, labels = files["images"], files["annotations"]
    if not images.keys() & labels.keys():
        wanted = (
            "images/training/ADE_train_*.jpg with annotations/training/ADE_train_*.png (ADEChallengeData2016)"
        )
        raise source.nothing_found(wanted)
    pairing = join(source, images, labels, "annotation")
    table = load_classes("", 150)
    return Release(
        pairing.pairs,
        IndexLabels(),
        coding={value: value for value in range(151)},
        classes=table,
        values={k: (name, tuple(table.colors[k - 1].tolist())) for k, name in enumerate(table.names, 1)},
        notes=pairing.notes,
        problems=pairing.problems,
    )
