"""``mit-semseg data prepare auto``: the format of a folder, by the names and the content of its files."""

import posixpath
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from ...data.files import counted, regular
from ...data.labels import read_values
from ...errors import UserError
from .formats import FORMATS
from .formats.class_masks import masks_of_images
from .formats.yolo import is_label
from .pairing import pair_by_name
from .release import PrepareOptions
from .source import NothingFoundError, SourceFolder, open_source, some

_START = 2**16  # bytes at the ends of a file that show what it is
_MOST = 50  # files of a kind looked into
_SAMPLE = 8  # labels

_NAMES = {  # patterns of names, all of which occur
    "ade20k": (r"images/\w+/ADE_(train|val)_\d+\.jpg", r"annotations/\w+/ADE_(train|val)_\d+\.png"),
    "cityscapes": (r"_leftImg8bit\.png", r"_gtFine_\w+\.png"),
    "camvid": (r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+\.png", r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+_L\.png"),
    "coco-stuff": (r"(train|val)2017/\d+\.jpg", r"(train|val)2017/\d+\.png"),
    "voc": (r"JPEGImages/[^/]+\.jpe?g", r"SegmentationClass/[^/]+\.png"),
    "supervisely": (r"(^|/)ann/[^/]+\.json", r"(^|/)img/[^/]+"),
}
_TEXTS = {  # the ending of a name, and words that the beginning of such a file holds
    "coco-panoptic": (".json", (b'"segments_info"',)),
    "label-studio": (".json", (b'"original_width"', b"labels")),
    "via": (".json", (b'"region_attributes"', b'"filename"')),
    "labelme": (".json", (b'"shapes"', b'"imagePath"')),
    "cvat": (".xml", (b"<annotations",)),
}
_ROBOFLOW = ("_annotations.coco.json", "_classes.csv", "readme.roboflow.txt")
_BEFORE = {  # of two formats that a folder fits, the more special one
    ("roboflow", "coco"), ("roboflow", "yolo"), ("cvat", "voc"), ("supervisely", "labelme"),
}  # fmt: skip


def recognize(path: str, options: PrepareOptions) -> tuple[str, str]:
    """The format of a folder, and what shows it, as a sentence.

    Raises: UserError if it has none, or several between which the user must choose.
    """
    source = open_source(Path(path))
    found = dict(_special(source))
    for more, less in _BEFORE:
        if more in found:
            found.pop(less, None)
    found = found or dict(islice(_paired(source, options), 1))
    if not found:
        raise UserError(
            f"{path} has none of the formats {', '.join(FORMATS)}. It holds: "
            f"{counted(source.members) or 'nothing'}. If it is "
            f"one of them, name it: mit-semseg data prepare FORMAT."
        )
    if len(found) > 1:
        lines = [f"  {name}: {shows}" for name, shows in found.items()]
        raise UserError("\n".join([f"{path} has several formats. Name one of them instead of auto:", *lines]))
    ((name, shows),) = found.items()
    return name, f"{path} has the format {name} ({FORMATS[name]}): {shows}."


def _special(source: SourceFolder) -> Iterator[tuple[str, str]]:
    """The formats that file names or contents show, each with its evidence."""
    members = source.members
    for name, patterns in _NAMES.items():
        groups = [[one for one in members if re.search(pattern, one, re.IGNORECASE)] for pattern in patterns]
        if all(groups):
            yield name, " and ".join(_few(group) for group in groups)
    by_name = {posixpath.basename(one).lower(): one for one in members}
    if "labelmap.txt" in by_name and any("SegmentationClass/" in one for one in members):
        yield "cvat", f"{by_name['labelmap.txt']} and SegmentationClass/"
    for name, (end, words) in _TEXTS.items():
        files = [one for one in members if one.lower().endswith(end)]
        files = [one for one in files[:_MOST] if _holds(source.path / one, words)]
        if files:
            yield name, _few(files)
    texts = [one for one in members if one.lower().endswith(".json")][:_MOST]
    instances = [one for one in texts if source.is_coco_json(one) and not _is_panoptic(source.path / one)]
    if instances:
        yield "coco", _few(instances)
    labels = [one for one in members if is_label(one, set())]
    if labels:
        yield "yolo", _few(labels)
    roboflow = [by_name[name] for name in _ROBOFLOW if name in by_name]
    if roboflow:
        yield "roboflow", some(roboflow)


def _paired(source: SourceFolder, options: PrepareOptions) -> Iterator[tuple[str, str]]:
    """The format of images with label images, by the values of a few labels."""
    by_image, _ = masks_of_images(source, options)
    try:
        pairs = pair_by_name(source, options).pairs
    except NothingFoundError:
        pairs = []
    several = [image for image, masks in by_image.items() if len(masks) > 1]
    if several and len(by_image) >= len(pairs):
        masks = [mask for image in several for _, mask in by_image[image]]
        yield "class-masks", f"{len(by_image)} images with several masks each, such as {some(masks)}"
    if not pairs:
        return
    example = f"{len(pairs)} images with labels, such as {pairs[0].image} with {pairs[0].label}"
    sample = [source.path / pair.label for pair in pairs[:: max(1, len(pairs) // _SAMPLE)]]
    if any(_has_colors(path) for path in sample):
        yield "rgb", f"{example}, which holds colours"
    elif all(_is_binary(path) for path in sample):
        yield "binary", f"{example}, which is a mask of two values"
    else:
        yield "folders", example


def _is_panoptic(path: Path) -> bool:
    return _holds(path, _TEXTS["coco-panoptic"][1])


def _holds(path: Path, words: tuple[bytes, ...]) -> bool:
    """Whether the beginning or the end of a file holds all of some words."""
    try:
        with regular(path).open("rb") as file:
            text = file.read(_START)
            file.seek(max(len(text), file.seek(0, 2) - _START))
            text += file.read()
    except (OSError, UserError):
        return False
    return all(word in text for word in words)


def _has_colors(path: Path) -> bool:
    try:
        with Image.open(regular(path)) as image:
            if image.mode not in ("RGB", "RGBA"):
                return False
            red, green, blue = np.asarray(image.convert("RGB")).T
            return bool((red != green).any() or (red != blue).any())
    except Exception:  # reported when it is converted
        return False


def _is_binary(path: Path) -> bool:
    try:
        values = np.unique(read_values(path, convert=True, one_channel=True))
    except UserError:  # reported when it is converted
        return False
    return len(values) <= 2 and values[0] == 0 and values[-1] in (0, 1, 255)


def _few(members: list[str]) -> str:
    return members[0] if len(members) == 1 else f"{len(members)} files such as {members[0]}"
