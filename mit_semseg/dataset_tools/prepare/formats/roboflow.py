"""Roboflow's exports: COCO (``train/_annotations.coco.json``), YOLO (``data.yaml``), or semantic masks.

Semantic masks are ``train/a.jpg`` and ``train/a_mask.png``, with class numbers that ``_classes.csv`` names.
Source: "Semantic Segmentation Masks" of roboflow.com/formats.
"""

import posixpath

from ....errors import UserError
from ..drawn import refuse_options_of_shapes
from ..labels import IndexLabels
from ..names import read_names
from ..pairing import pair_by_name
from ..release import PrepareOptions, Release
from ..source import SourceFolder, some
from . import coco, yolo

COCO, MASKS, YOLO = "_annotations.coco.json", "_classes.csv", "data.yaml"


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are those of the JSON, of ``data.yaml``, or of ``_classes.csv``."""
    names = {posixpath.basename(name) for name in source.members}
    if COCO in names:
        return coco.read(source, options)
    if MASKS in names:
        return _of_masks(source, options)
    if YOLO in names:
        return yolo.read(source, options)
    raise source.nothing_found(f"{COCO}, {MASKS} or {YOLO}")


def _of_masks(source: SourceFolder, options: PrepareOptions) -> Release:
    refuse_options_of_shapes(options, MASKS)
    tables = [name for name in source.members if posixpath.basename(name) == MASKS]
    given = [read_names(str(source.file(name))) for name in tables]
    first = given[0]
    if any((one.values, one.table.names) != (first.values, first.table.names) for one in given):
        raise UserError(f"{source.path} names the classes differently in {some(tables)}.")
    pairing = pair_by_name(source, options)
    colors = first.table.colors.tolist()
    return Release(
        pairing.pairs,
        IndexLabels(one_channel=True),
        coding={
            0: 0,
            **dict.fromkeys(first.unlabelled, 0),
            **{value: k for k, value in enumerate(first.values, 1)},
        },
        classes=first.table,
        values={
            value: (name, tuple(color))
            for value, name, color in zip(first.values, first.table.names, colors, strict=True)
        },
        notes=pairing.notes,
        problems=pairing.problems,
    )
