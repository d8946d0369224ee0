"""COCO instances: JSON files with images, annotations and categories, as COCO and many tools write them.

A segmentation is a list of polygons, which are united as pycocotools does, or run lengths (`data.rle`). What
``iscrowd`` or ``ignore`` marks is ignored. Source: "Data format" of cocodataset.org.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from ....data import rle
from ....errors import UserError
from ..drawn import Classes, Drawn, chosen, hex_color, unusable
from ..release import PrepareOptions, Release
from ..shape_release import release_of
from ..shapes import Mask, Part, Polygon, Shape, Size
from ..source import SourceFolder, some
from ..texts import PlaceError, entries, excerpt, load_json, reported, ring_of, size_of

_NOT_AN_AREA = "box without segmentation"


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are the categories in the order of their ids, without gaps, and by name in all files."""
    classes = Classes()
    return release_of(
        source,
        options,
        _drawn(source, options, classes),
        classes,
        wanted='JSON file of COCO (with "images", "annotations" and "categories")',
    )


def _drawn(source: SourceFolder, options: PrepareOptions, classes: Classes) -> Iterator[Drawn]:
    members = chosen(source, options, source.is_coco_json)
    several = len(members) > 1 and options.annotations is None
    for member in members:
        where = source.where(member)
        try:
            content = load_json(source.file(member))
            images, annotations = entries(content, "images"), entries(content, "annotations")
            categories = entries(content, "categories")
            other = _other_kind(annotations, categories)
            if other and not several:
                raise UserError(f"{where} holds {other}.")
            if other:
                classes.notes.append(f"{where} is omitted, because it holds {other}.")
                continue
            names = names_of(categories, annotations, classes, where)
        except (PlaceError, UserError) as error:
            yield unusable(where, error)
            continue
        yield from _of_file(member, images, annotations, names)


def _other_kind(annotations: list[dict[str, Any]], categories: list[dict[str, Any]]) -> str:
    """What a file holds that belongs to another task of COCO, so that it repeats the images; "" for none."""
    if any("segments_info" in one for one in annotations[:1]):
        return "panoptic segments, which the format coco-panoptic reads"
    if any("keypoints" in one for one in categories):
        return "keypoints"
    return ""


def names_of(
    categories: list[dict[str, Any]], annotations: list[dict[str, Any]], classes: Classes, where: str
) -> dict[Any, str]:
    """Id -> name of the categories of a file, which are added to the classes. Odd ones are noted.

    Raises: UserError if the file has no categories.
    """
    names: dict[Any, str] = {}
    nameless, renamed = [], []
    try:
        ordered = sorted(categories, key=lambda one: one["id"])
        hash(tuple(one["id"] for one in ordered))
    except (KeyError, TypeError):
        raise UserError(f"{where} has categories whose ids are not numbers.") from None
    # Roboflow adds a category 0 that only groups the others.
    groups = [one.get("supercategory") for one in ordered[1:]]
    first = ordered[0] if ordered else {}
    if first.get("id") == 0 and first.get("name") in groups and all(map(category_of, annotations)):
        classes.notes.append(
            f'{where}: category 0, "{first["name"]}", only groups the others, and is not a class.'
        )
        ordered = ordered[1:]
    for one in ordered:
        name = str(one.get("name") or "").strip()
        if not name:
            name = f"category {one['id']}"
            nameless.append(str(one["id"]))
        if one["id"] in names:
            raise UserError(f'{where} gives the id {one["id"]} to "{names[one["id"]]}" and to "{name}".')
        if name in names.values():
            renamed.append(f'{one["id"]} ("{name}")')
        names[one["id"]] = name
        color = one.get("color")
        if name not in classes.colors:
            rgb = tuple(color) if isinstance(color, list) else ()
            is_color = len(rgb) == 3 and all(isinstance(x, int) and 0 <= x <= 255 for x in rgb)
            classes.colors[name] = rgb if is_color else hex_color(color)
    if not names:
        raise UserError(f"{where} has no category, and so no class.")
    ids = [one["id"] for one in ordered]
    if nameless:
        classes.notes.append(
            f"{where}: categories without a name are called by their ids: {some(nameless, 10)}."
        )
    if renamed:
        classes.notes.append(
            f"{where}: categories whose name occurs before belong to the same class: {some(renamed, 10)}."
        )
    if all(isinstance(one, int) for one in ids) and ids != list(range(ids[0], ids[0] + len(ids))):
        absent = some([str(k) for k in range(ids[0], ids[-1]) if k not in names], 10)
        classes.notes.append(
            f"{where}: category ids go from {ids[0]} to {ids[-1]} with gaps ({absent}); classes are "
            f"numbered without gaps, in their order."
        )
    return names


def _of_file(
    member: str,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    names: dict[Any, str],
) -> Iterator[Drawn]:
    by_image: dict[Any, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for place, one in enumerate(annotations, 1):
        by_image[str(one.get("image_id"))].append((place, one))
    for place, image in enumerate(images, 1):
        drawn = Drawn(member, [str(image.get("file_name") or f"image {image.get('id', place)}")])
        with reported(drawn.problems, f"image {image.get('id', place)}"):
            drawn.size = size_of(image.get("width"), image.get("height"))
        for number, one in by_image.pop(str(image.get("id")), ()):
            with reported(drawn.problems, f"annotation {one.get('id', f'in place {number}')}"):
                parts = parts_of(one.get("segmentation"), drawn.size)
                if not parts:
                    drawn.omitted[_NOT_AN_AREA] += 1
                    continue
                if drawn.size is None and isinstance(parts[0], Mask):
                    drawn.size = parts[0].size  # all others must be as large
                name = names.get(category_of(one))
                if name is None:
                    raise PlaceError(f"has the category_id {category_of(one)!r}, which is not a category")
                drawn.shapes.append(Shape(name, parts, bool(one.get("iscrowd") or one.get("ignore"))))
        yield drawn
    for image_id, ones in by_image.items():
        first = ones[0][1].get("id", f"in place {ones[0][0]}")
        more = f", and {len(ones) - 1} more of that image" if len(ones) > 1 else ""
        problem = f"annotation {first}{more}: the file lists no image with the id {image_id}"
        yield Drawn(member, (), problems=[problem])


def parts_of(segmentation: Any, size: Size | None) -> tuple[Part, ...]:
    """The polygons or the mask of a segmentation; () if there is none. Raises: PlaceError."""
    if not segmentation:
        return ()
    if isinstance(segmentation, dict):
        return (_mask(segmentation, size),)
    if not isinstance(segmentation, list):
        raise PlaceError("has a segmentation that is neither a list nor run lengths")
    if all(isinstance(x, int | float) for x in segmentation):
        segmentation = [segmentation]  # some tools omit the list around a single polygon
    return tuple(Polygon((_ring(polygon),)) for polygon in segmentation)


def _ring(polygon: Any) -> np.ndarray:
    if not isinstance(polygon, list):
        raise PlaceError("has a polygon that is not a list of numbers")
    if polygon and isinstance(polygon[0], list):
        return ring_of(polygon)
    if len(polygon) % 2:
        raise PlaceError(f"has a polygon of {len(polygon)} numbers, which are not pairs")
    try:
        points = np.array(polygon, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise PlaceError(f"has points that are not pairs of numbers ({excerpt(polygon)})") from None
    return ring_of(points)


def _mask(segmentation: dict[str, Any], size: Size | None) -> Mask:
    counts, extent = segmentation.get("counts"), segmentation.get("size")
    try:
        height, width = (int(side) for side in extent or ())
    except (TypeError, ValueError):
        raise PlaceError(f"has run lengths of the size {extent!r}; it is [height, width]") from None
    if size is not None and (width, height) != size:
        raise PlaceError(
            f"has run lengths of {width} x {height} pixels, but its image has {size[0]} x {size[1]}"
        )
    try:
        runs = rle.from_text(counts) if isinstance(counts, str) else np.array(counts, np.int64)
        rle.check(runs, height * width)
    except (TypeError, ValueError, OverflowError) as error:
        raise PlaceError(f"has run lengths that cannot be read: {error}") from None
    return Mask(runs, (width, height))


def category_of(annotation: dict[str, Any]) -> int | str | None:
    """The id of an annotation's category; None if it has none."""
    category = annotation.get("category_id")
    return category if isinstance(category, int | str) else None
