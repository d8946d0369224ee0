"""Pascal VOC segmentation.

Layout: JPEGImages/*.jpg, SegmentationClass/*.png, ImageSets/Segmentation/{train,val}.txt. Labels are palette
images: 0 background, 1 to 20 the objects, 255 their borders and difficult pixels.
Source: Everingham et al., The PASCAL Visual Object Classes Challenge 2012 Development Kit.
"""

import re
from pathlib import PurePosixPath

import numpy as np

from ....data.classes import ClassTable, palette
from ....data.files import naming
from ....errors import UserError
from ..labels import IndexLabels
from ..release import TRAINING, VALIDATION, PrepareOptions, Release, SourcePair
from ..source import SourceFolder, some

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


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """21 classes with the background, so value v is class v + 1; 255 is unlabelled."""
    members = source.members
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
        raise source.nothing_found(wanted)
    if len(roots) > 1:
        raise UserError(f"{source.path} holds several releases: {some(sorted(roots))}. Name one of them.")
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
            f"{len(unlisted)} labels in neither train.txt nor val.txt are omitted ({some(unlisted)})."
        )
    colors = np.concatenate([np.zeros((1, 3), np.uint8), palette(20)])
    return Release(
        [
            SourcePair(name, labels[name], images[name], split)
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


def _splits(source: SourceFolder, lists: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The split of each listed image, and the problems of the lists."""
    splits: dict[str, str] = {}
    problems = []
    for list_name, split in (("train", TRAINING), ("val", VALIDATION)):
        if list_name not in lists:
            continue
        path = source.file(lists[list_name])
        with naming(path):
            names = path.read_text(encoding="utf-8-sig").split()
        for name in names:
            if splits.setdefault(name, split) != split:
                problems.append(f"{source.path}: {name} is in both train.txt and val.txt.")
    return splits, problems
