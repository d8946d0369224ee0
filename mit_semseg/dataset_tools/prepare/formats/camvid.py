"""CamVid: 701_StillsRaw_full/*.png, LabeledApproved_full/*_L.png and label_colors.txt, 32 colours.

Sources: Brostow et al. 2009, Semantic object classes in video (the colours); Badrinarayanan et al. 2015,
SegNet (the 11 classes, and which frames train, validate and test: 367, 101 and 233).
"""

import re

import numpy as np

from ....data.classes import ClassTable
from ....data.files import naming
from ....errors import UserError
from ..labels import ColorLabels, parse_colors
from ..pairing import join
from ..release import TRAINING, VALIDATION, Color, PrepareOptions, Release
from ..source import SourceFolder

_COLORS = """64 128 64 Animal
192 0 128 Archway
0 128 192 Bicyclist
0 128 64 Bridge
128 0 0 Building
64 0 128 Car
64 0 192 CartLuggagePram
192 128 64 Child
192 192 128 Column_Pole
64 64 128 Fence
128 0 192 LaneMkgsDriv
192 0 64 LaneMkgsNonDriv
128 128 64 Misc_Text
192 0 192 MotorcycleScooter
128 64 64 OtherMoving
64 192 128 ParkingBlock
64 64 0 Pedestrian
128 64 128 Road
128 128 192 RoadShoulder
0 0 192 Sidewalk
192 128 128 SignSymbol
128 128 128 Sky
64 128 192 SUVPickupTruck
0 0 64 TrafficCone
0 64 64 TrafficLight
192 64 128 Train
128 128 0 Tree
192 128 192 Truck_Bus
64 0 64 Tunnel
192 192 0 VegetationMisc
0 0 0 Void
64 192 0 Wall"""
# The colours of the 11 are those of data/camvid_classes.csv.
_GROUPS: tuple[tuple[str, Color, str], ...] = (
    ("sky", (128, 128, 128), "Sky"),
    ("building", (128, 0, 0), "Archway Bridge Building Tunnel Wall"),
    ("pole", (192, 192, 128), "Column_Pole TrafficCone"),
    ("road", (128, 64, 128), "LaneMkgsDriv LaneMkgsNonDriv Road"),
    ("pavement", (60, 40, 222), "ParkingBlock RoadShoulder Sidewalk"),
    ("tree", (128, 128, 0), "Tree VegetationMisc"),
    ("sign", (192, 128, 128), "Misc_Text SignSymbol TrafficLight"),
    ("fence", (64, 64, 128), "Fence"),
    ("car", (64, 0, 128), "Car OtherMoving SUVPickupTruck Train Truck_Bus"),
    ("pedestrian", (64, 64, 0), "Animal CartLuggagePram Child Pedestrian"),
    ("bicyclist", (0, 128, 192), "Bicyclist MotorcycleScooter"),
)
_FILE = re.compile(r"(?:.*/)?([^/]+?)(_L)?\.png", re.IGNORECASE)
_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", re.IGNORECASE)


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """11 classes, or 31 with --classes 32 (all but Void). A value is the number of a row in the table."""
    if options.classes not in (None, "11", "32"):
        raise UserError(f"--classes is {options.classes}; CamVid has 11 (the usual groups) or 32.")
    members = source.members
    images: dict[tuple[str, str], str] = {}
    labels: dict[tuple[str, str], str] = {}
    tests = 0
    for member in members:
        match = _FILE.fullmatch(member)
        if not match:
            continue
        name, split = match[1], _split(match[1])
        if split == "test":
            tests += match[2] is not None
        else:
            (labels if match[2] else images)[split, name] = member
    if not images.keys() & labels.keys():
        wanted = "701_StillsRaw_full/*.png with LabeledApproved_full/*_L.png"
        raise source.nothing_found(wanted)
    pairing = join(source, images, labels, "label (_L.png)")
    if tests:
        pairing.notes.append(f"{tests} test frames (0001TP after 8520, Seq05VD) are omitted.")
    table = _table(source, members)
    numbers = {name: number for number, (name, _) in enumerate(table, 1)}
    if options.classes == "32":
        groups = [(name, color, name) for name, color in table if name.lower() != "void"]
    else:
        groups = list(_GROUPS)
        grouped = {part.lower() for *_, parts in _GROUPS for part in parts.split()} | {"void"}
        strange = [name for name, _ in table if name.lower() not in grouped]
        if strange:
            raise UserError(
                f"{source.path}: label_colors.txt has {', '.join(strange)}, which is none of CamVid's 32 "
                f"classes and in no group. The format rgb reads colours of any names."
            )
    group_of = {part.lower(): label for label, (*_, parts) in enumerate(groups, 1) for part in parts.split()}
    return Release(
        pairing.pairs,
        ColorLabels.of(
            [color for _, color in table],
            list(numbers.values()),
            unknown=options.unknown_colors,
        ),
        coding={0: 0, **{number: group_of.get(name.lower(), 0) for name, number in numbers.items()}},
        classes=ClassTable(
            tuple(name for name, *_ in groups), np.array([color for _, color, _ in groups], np.uint8)
        ),
        values={number: (name, color) for number, (name, color) in enumerate(table, 1)},
        notes=pairing.notes,
        problems=pairing.problems,
    )


def _table(source: SourceFolder, members: list[str]) -> list[tuple[str, Color]]:
    for member in members:
        if member.split("/")[-1].lower() == "label_colors.txt":
            path = source.file(member)
            with naming(path):
                text = path.read_text(encoding="utf-8-sig", errors="replace")
            return parse_colors(text, source.where(member))
    return parse_colors(_COLORS, "CamVid")


def _split(name: str) -> str:
    """The usual split of the 701 frames: by sequences, so that neighbouring frames stay together."""
    match = _FRAME.fullmatch(name)
    if not match:
        return ""
    film, frame = match[1].upper(), int(match[2])
    if film == "SEQ05VD" or (film == "0001TP" and frame > 8520):
        return "test"
    return VALIDATION if film == "0016E5" and 7959 <= frame <= 8159 else TRAINING
