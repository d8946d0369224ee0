"""The formats that ``mit-semseg data prepare`` reads.

A new format is a line in `FORMATS` and a module of its name in this folder, with a function ``read`` (see
`release`).
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..release import PrepareOptions, Release
    from ..source import SourceFolder

FORMATS = {
    "folders": "images and label images in two folders (or one), matched by file name",
    "ade20k": "ADE20K of the 2016 scene parsing challenge: ADEChallengeData2016; 150 classes",
    "cityscapes": "Cityscapes: leftImg8bit and gtFine; 19 classes",
    "voc": "Pascal VOC segmentation: VOCdevkit/VOC2012; 21 classes",
    "camvid": "CamVid: 701_StillsRaw_full and LabeledApproved_full; 11 classes, or all 32",
    "coco-stuff": "COCO-Stuff 164k: train2017, val2017 and stuffthingmaps_trainval2017; 171 classes",
    "rgb": "images and colour-coded label images, with a table of the colours (--colors)",
    "labelme": "LabelMe's JSON files, with the images beside them or in them",
    "coco": "COCO's JSON of instances: polygons and run lengths, also as exported by labelling tools",
    "coco-panoptic": "COCO's panoptic JSON and its PNGs",
    "cvat": "CVAT for images 1.1 (XML), or CVAT's segmentation masks (labelmap.txt)",
    "label-studio": "Label Studio's JSON: polygons, rectangles, ellipses, brush",
    "roboflow": "Roboflow's exports: COCO, YOLO, or semantic masks",
    "supervisely": "Supervisely: meta.json, ann/*.json and img/",
    "yolo": "YOLO: a text file of polygons for each image, and data.yaml or classes.txt",
    "via": "VGG Image Annotator 2: JSON or project",
    "binary": "images and masks of two values (0/255, 0/1), matched by file name",
    "class-masks": "one mask file for each class: masks/car/a.png, masks/a/car.png or masks/a_car.png",
}
"""Each format and what it is."""

DRAWN = (
    *("coco", "coco-panoptic", "cvat", "label-studio", "roboflow", "supervisely", "yolo", "via"),
    "class-masks",
)
"""Those of shapes, which may overlap, see `shape_release`."""


def reader_of(name: str) -> "Callable[[SourceFolder, PrepareOptions], Release]":
    """The function ``read`` of a format. Its module is imported here, so that ``--help`` answers at once."""
    return import_module(f".{name.replace('-', '_')}", __package__).read
