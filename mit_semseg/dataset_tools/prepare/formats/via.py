"""VIA 2.x (VGG Image Annotator): the annotations as JSON, or the whole project.

Source: "VIA Export Formats" in the documentation of robots.ox.ac.uk/~vgg/software/via.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ....data.polygons import ellipse, rectangle
from ....errors import UserError
from ..drawn import Classes, Drawn, chosen, unusable
from ..release import PrepareOptions, Release
from ..shape_release import release_of
from ..shapes import Polygon, Shape
from ..source import SourceFolder
from ..texts import PlaceError, load_json, number, reported, ring_of

_PROJECT = "_via_img_metadata"
_LIKELY = ("class", "label", "name", "type", "category", "object", "class_name", "label_name")
_NO_AREA = ("point", "polyline", "line")
_ONLY = "object"  # the class of regions without attributes


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are the values of one attribute of the regions: in the project's order, or else sorted."""
    classes = Classes(by_name=True)
    return release_of(source, options, _drawn(source, options, classes), classes, wanted="JSON file of VIA 2")


def images_in(content: Any) -> dict[str, Any] | None:
    """The entries of images in JSON of VIA; None for other JSON."""
    if not isinstance(content, dict):
        return None
    if isinstance(content.get(_PROJECT), dict):
        return content[_PROJECT]
    is_via = content and all(
        isinstance(one, dict) and "filename" in one and "regions" in one for one in content.values()
    )
    return content if is_via else None


def _drawn(source: SourceFolder, options: PrepareOptions, classes: Classes) -> Iterator[Drawn]:
    for member in chosen(source, options, lambda name: name.lower().endswith(".json")):
        try:
            content = load_json(source.file(member))
        except UserError as error:
            yield unusable(source.where(member), error)
            continue
        images = images_in(content)
        if images is None:
            if content != {}:  # an empty export, which is reported as such
                source.opened.discard(member)
            continue
        where = source.where(member)
        key = _attribute(images, content, where, classes)
        for one in images.values():
            if isinstance(one, dict):
                yield _of_image(member, one, key)


def _attribute(images: dict[str, Any], content: Any, where: str, classes: Classes) -> str:
    """The attribute of regions that is their class, "" if they have none. Its options become classes."""
    counts = Counter(
        name
        for one in images.values()
        if isinstance(one, dict)
        for region in _regions(one)
        for name, value in _dict(region.get("region_attributes")).items()
        if value not in ("", {}, [], None)
    )
    declared = _dict(_dict(content.get("_via_attributes")).get("region")) if _PROJECT in content else {}
    choices = {
        name: list(_dict(about.get("options"))) for name, about in declared.items() if isinstance(about, dict)
    }
    names = list(counts)
    if len(names) > 1:
        likely = [name for name in names if name.casefold() in _LIKELY]
        names = likely or [name for name in names if choices.get(name)] or names
        if len(names) > 1:
            names.sort(key=lambda name: -counts[name])
            if counts[names[0]] == counts[names[1]]:
                raise UserError(
                    f"{where} gives its regions several attributes ({', '.join(counts)}), and none of them "
                    f'is the class for certain. Call the one with the classes "class".'
                )
        classes.notes.append(
            f'{where}: the classes are the values of the attribute "{names[0]}"; not used: '
            f"{', '.join(name for name in counts if name != names[0])}."
        )
    if not names:
        classes.notes.append(f'{where}: the regions have no attribute, so all are of the class "{_ONLY}".')
        return ""
    for choice in choices.get(names[0], ()):
        classes.colors.setdefault(str(choice), None)
    return names[0]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _regions(image: dict[str, Any]) -> list[dict[str, Any]]:
    regions = image.get("regions") or []
    if isinstance(regions, dict):  # as VIA 1 writes them
        regions = list(regions.values())
    return [one for one in regions if isinstance(one, dict)] if isinstance(regions, list) else []


def _of_image(member: str, image: dict[str, Any], key: str) -> Drawn:
    drawn = Drawn(member, [str(image.get("filename"))])
    for place, region in enumerate(_regions(image), 1):
        with reported(drawn.problems, f"region {place}"):
            shape = region.get("shape_attributes") or {}
            kind = shape.get("name")
            if kind in _NO_AREA:
                drawn.omitted[kind] += 1
                continue
            ring = _ring(shape, kind)
            drawn.shapes.append(Shape(_name(region, key), (Polygon((ring,)),)))
    return drawn


def _name(region: dict[str, Any], key: str) -> str:
    if not key:
        return _ONLY
    value = _dict(region.get("region_attributes")).get(key)
    if isinstance(value, dict):  # of a checkbox
        value = next((name for name, is_set in value.items() if is_set), None)
    if value in (None, ""):
        raise PlaceError(f'has no value for "{key}", and so no class')
    return str(value).strip()


def _ring(shape: dict[str, Any], kind: Any) -> np.ndarray:
    def values(*names: str) -> list[float]:
        return [number(shape.get(name), name) for name in names]

    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise PlaceError("has not as many x as y")
        return ring_of(list(zip(xs, ys, strict=True)))
    if kind == "rect":
        x, y, width, height = values("x", "y", "width", "height")
        return rectangle(x, y, x + width, y + height)
    if kind == "circle":
        x, y, radius = values("cx", "cy", "r")
        return ellipse(x, y, radius, radius)
    if kind == "ellipse":
        theta = number(shape.get("theta") or 0, "theta")  # radians
        x, y, across, down = values("cx", "cy", "rx", "ry")
        return ellipse(x, y, across, down, float(np.rad2deg(theta)))
    raise PlaceError(f"is of the kind {kind!r}, which is not read")
