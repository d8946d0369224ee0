"""Cityscapes: leftImg8bit/{train,val,test}/<city>/*_leftImg8bit.png, gtFine/.../*_gtFine_labelIds.png.

Source of ids, train ids and colours: the dataset's own table, helpers/labels.py of cityscapesScripts.
"""

import re

import numpy as np

from ....data.classes import ClassTable
from ..labels import IndexLabels
from ..pairing import join
from ..release import TRAINING, VALIDATION, Color, PrepareOptions, Release
from ..source import SourceFolder

# Name, class, colour; by id. The class is the train id + 1 for the 19 that are trained and scored, else 0.
_LABELS: tuple[tuple[str, int, Color], ...] = (
    ("unlabeled", 0, (0, 0, 0)),
    ("ego vehicle", 0, (0, 0, 0)),
    ("rectification border", 0, (0, 0, 0)),
    ("out of roi", 0, (0, 0, 0)),
    ("static", 0, (0, 0, 0)),
    ("dynamic", 0, (111, 74, 0)),
    ("ground", 0, (81, 0, 81)),
    ("road", 1, (128, 64, 128)),
    ("sidewalk", 2, (244, 35, 232)),
    ("parking", 0, (250, 170, 160)),
    ("rail track", 0, (230, 150, 140)),
    ("building", 3, (70, 70, 70)),
    ("wall", 4, (102, 102, 156)),
    ("fence", 5, (190, 153, 153)),
    ("guard rail", 0, (180, 165, 180)),
    ("bridge", 0, (150, 100, 100)),
    ("tunnel", 0, (150, 120, 90)),
    ("pole", 6, (153, 153, 153)),
    ("polegroup", 0, (153, 153, 153)),
    ("traffic light", 7, (250, 170, 30)),
    ("traffic sign", 8, (220, 220, 0)),
    ("vegetation", 9, (107, 142, 35)),
    ("terrain", 10, (152, 251, 152)),
    ("sky", 11, (70, 130, 180)),
    ("person", 12, (220, 20, 60)),
    ("rider", 13, (255, 0, 0)),
    ("car", 14, (0, 0, 142)),
    ("truck", 15, (0, 0, 70)),
    ("bus", 16, (0, 60, 100)),
    ("caravan", 0, (0, 0, 90)),
    ("trailer", 0, (0, 0, 110)),
    ("train", 17, (0, 80, 100)),
    ("motorcycle", 18, (0, 0, 230)),
    ("bicycle", 19, (119, 11, 32)),
)
_LICENSE_PLATE = 255  # -1 in the table, which 8 bits hold as 255
_FILE = re.compile(
    r"(?:.*/)?([^/]+)/([^/]+)/([^/]+)_(leftImg8bit|gtFine_labelIds)\.(png|jpg|jpeg)", re.IGNORECASE
)
_SPLITS = {"train": TRAINING, "val": VALIDATION}


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The 19 classes; other ids are unlabelled. The test part is omitted: its public labels are empty."""
    members = source.members
    files: dict[str, dict[tuple[str, str], str]] = {"leftimg8bit": {}, "gtfine_labelids": {}}
    tests = others = 0
    for member in members:
        match = _FILE.fullmatch(member)
        if not match:
            continue
        split, city, name, kind = (
            part if k == 2 else part.lower() for k, part in enumerate(match.groups()[:4])
        )
        if split in _SPLITS:
            files[kind][_SPLITS[split], f"{city}/{name}"] = member
        elif kind == "leftimg8bit":
            tests += split == "test"
            others += split != "test"
    images, labels = files.values()
    if not images.keys() & labels.keys():
        wanted = "leftImg8bit/train/CITY/*_leftImg8bit.png with gtFine/train/CITY/*_gtFine_labelIds.png"
        raise source.nothing_found(wanted)
    pairing = join(source, images, labels, "labelIds file")
    pairing.notes += [f"{tests} test images are omitted: their labels are not public."] if tests else []
    pairing.notes += [f"{others} images of other parts (train_extra) are omitted."] if others else []
    trained = sorted((label, name, color) for name, label, color in _LABELS if label)
    return Release(
        pairing.pairs,
        IndexLabels(),
        coding={_LICENSE_PLATE: 0, **{value: label for value, (_, label, _) in enumerate(_LABELS)}},
        classes=ClassTable(
            tuple(name for _, name, _ in trained), np.array([color for *_, color in trained], np.uint8)
        ),
        values={value: (name, color) for value, (name, _, color) in enumerate(_LABELS)},
        notes=pairing.notes,
        problems=pairing.problems,
    )
