"""Pascal VOC segmentation.

Layout: JPEGImages/*.jpg, SegmentationClass/*.png, ImageSets/Segmentation/{train,val}.txt. Labels are palette
images: 0 background, 1 to 20 the objects, 255 the border around them and what is difficult.
Source: Everingham et al., The PASCAL Visual Object Classes Challenge 2012 Development Kit.
"""

import re
from pathlib import PurePosixPath

import numpy as np

from ...errors import UserError
from ..classes import ClassTable, palette
from ..files import naming
from .options import Options
from .release import TRAINING, VALIDATION, Example, Release, nothing_found, some
from .source import Source
from .values import IndexLabels

_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
)
_VOID = 255
_FILE = re.compile(
    r"((?:.*/)?)(JPEGImages/[^/]+\.jpe?g|SegmentationClass/[^/]+\.png|ImageSets/Segmentation/[^/]+\.txt)",
    re.IGNORECASE,
)


def read(source: Source, options: Options) -> Release:
    """21 classes: background is one, so value v is class v + 1; 255 is unlabelled."""
    members = source.members()
    roots: dict[str, dict[str, dict[str, str]]] = {}
    for member in members:
        match = _FILE.fullmatch(member)
        if match:
            folder, name = match[2].split("/")[0].lower(), PurePosixPath(member).stem
            kinds = roots.setdefault(match[1], {"jpegimages": {}, "segmentationclass": {}, "imagesets": {}})
            kinds[folder][name] = member
    roots = {
        root: kinds
        for root, kinds in roots.items()
        if kinds["jpegimages"].keys() & kinds["segmentationclass"].keys()
    }
    if not roots:
        wanted = "JPEGImages/*.jpg with SegmentationClass/*.png (VOCdevkit/VOC2012)"
        raise nothing_found(source.path, wanted, members)
    if len(roots) > 1:
        raise UserError(f"{source.path} holds {some(sorted(roots))}. Name one of them.")
    ((root, kinds),) = roots.items()
    images, labels, lists = kinds["jpegimages"], kinds["segmentationclass"], kinds["imagesets"]
    splits, problems = _splits(source, lists)
    notes = []
    if not splits:
        splits = dict.fromkeys(sorted(labels.keys() & images.keys()), "")
        notes.append(f"There is no {root}ImageSets/Segmentation/train.txt or val.txt, so the split is drawn.")
    for name in splits:
        for what, there in (("image", images), ("SegmentationClass label", labels)):
            if name not in there:
                problems.append(
                    f"{source.path}: {name} is listed in ImageSets/Segmentation but has no {what}."
                )
    unlisted = sorted(labels.keys() - splits.keys())
    if unlisted:
        notes.append(
            f"{len(unlisted)} labels in neither train.txt nor val.txt are left out ({some(unlisted)})."
        )
    colors = np.concatenate([np.zeros((1, 3), np.uint8), palette(20)])
    return Release(
        [
            Example(name, labels[name], images[name], split)
            for name, split in splits.items()
            if name in images and name in labels
        ],
        IndexLabels(),
        coding={_VOID: 0, **{value: value + 1 for value in range(len(_NAMES))}},
        classes=ClassTable(_NAMES, colors),
        values={v: (name, tuple(colors[v].tolist())) for v, name in enumerate(_NAMES)},
        notes=notes,
        problems=problems,
    )


def _splits(source: Source, lists: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The split of each image that the lists name, and what is wrong with them."""
    splits: dict[str, str] = {}
    problems = []
    for list_name, split in (("train", TRAINING), ("val", VALIDATION)):
        if list_name not in lists:
            continue
        with source.local(lists[list_name]) as path, naming(path):
            names = path.read_text(encoding="utf-8-sig").split()
        for name in names:
            if splits.setdefault(name, split) != split:
                problems.append(f"{source.path}: {name} is in train.txt and in val.txt.")
    return splits, problems
