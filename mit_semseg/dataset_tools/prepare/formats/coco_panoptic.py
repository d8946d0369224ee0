"""COCO panoptic: a JSON file, and a PNG for each image whose colours are the ids of its segments.

The id of a segment is red + 256 green + 65536 blue; 0 is unlabelled. Segments with ``iscrowd`` are ignored.
Source: "Panoptic Segmentation" in "Data format" of cocodataset.org.
"""

import posixpath
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from ....errors import UserError
from ..drawn import Classes, Drawn, chosen, unusable
from ..image_finder import ImageFinder, split_of_file
from ..release import PrepareOptions, Release
from ..shape_release import release_of
from ..shapes import MaskFile, Shape
from ..source import SourceFolder, some
from ..texts import PlaceError, entries, load_json, reported, size_of
from .coco import category_of, names_of


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are the categories, things and stuff, in the order of their ids, without gaps."""
    classes = Classes()
    return release_of(
        source,
        options,
        _drawn(source, options, classes),
        classes,
        wanted='panoptic JSON file of COCO (with "segments_info")',
    )


def _drawn(source: SourceFolder, options: PrepareOptions, classes: Classes) -> Iterator[Drawn]:
    masks = ImageFinder(name for name in source.members if name.lower().endswith(".png"))
    for member in chosen(source, options, source.is_coco_json):
        where = source.where(member)
        try:
            content = load_json(source.file(member))
            images, annotations = entries(content, "images"), entries(content, "annotations")
            categories = entries(content, "categories")
            if not any("segments_info" in one for one in annotations[:1]):
                source.opened.discard(member)
                continue
            segments = [one for image in annotations for one in entries(image, "segments_info")]
            names = names_of(categories, segments, classes, where)
        except (PlaceError, UserError) as error:
            yield unusable(where, error)
            continue
        images_by_id = {str(one.get("id")): one for one in images}
        for annotation in annotations:
            yield _of_image(source, member, annotation, images_by_id, names, masks)


def _of_image(
    source: SourceFolder,
    member: str,
    annotation: dict[str, Any],
    images: dict[Any, dict[str, Any]],
    names: dict[Any, str],
    masks: ImageFinder,
) -> Drawn:
    mask = str(annotation.get("file_name"))
    image = images.get(str(annotation.get("image_id")))
    if image is None:
        problem = f"{mask}: the file lists no image with the id {annotation.get('image_id')!r}"
        return Drawn(member, (), problems=[problem])
    drawn = Drawn(member, [str(image.get("file_name"))])
    # COCO's own PNGs are in a folder that is called like the JSON file.
    found = masks.find(mask, str(PurePosixPath(member).with_suffix("")), split_of_file(member))
    found = [one for one in found if "panoptic" in one] or found
    if len(found) != 1:
        what = f"may be any of {some(found)}" if found else f"is not in {source.path}"
        drawn.problems.append(f"{mask} {what}")
        return drawn
    source.file(found[0])
    with reported(drawn.problems, posixpath.basename(found[0])):
        drawn.size = size_of(image.get("width"), image.get("height"))
        for one in entries(annotation, "segments_info"):
            name = names.get(category_of(one))
            if name is None:
                raise PlaceError(f"has the category_id {one.get('category_id')!r}, which is not a category")
            part = MaskFile(found[0], int(one["id"]))
            drawn.shapes.append(Shape(name, (part,), bool(one.get("iscrowd"))))
    return drawn
