"""Supervisely: ``meta.json`` with the classes, and in each dataset ``img/a.jpg`` with ``ann/a.jpg.json``.

The corners of polygons and rectangles are centres of pixels. A bitmap is a PNG, packed with zlib, of a box of
the image. Source: "Annotation JSON format" in the documentation of docs.supervisely.com.
"""

import base64
import io
import posixpath
import re
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ....data.polygons import rectangle
from ....errors import UserError
from ..drawn import Classes, Drawn, chosen, hex_color, unusable
from ..release import PrepareOptions, Release
from ..shape_release import release_of
from ..shapes import Mask, Part, Polygon, Shape
from ..source import SourceFolder
from ..texts import PlaceError, entries, load_json, reported, ring_of, size_of

FILE = re.compile(r"(?:.*/)?ann/[^/]+\.json", re.IGNORECASE)
_NO_AREA = ("point", "line", "polyline", "graph", "graphNodes", "cuboid", "keypoint")


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are those of ``meta.json`` in its order."""
    classes = Classes(by_name=True)
    return release_of(
        source,
        options,
        _drawn(source, options, classes),
        classes,
        wanted="ann/*.json beside img/, as Supervisely exports them",
    )


def _drawn(source: SourceFolder, options: PrepareOptions, classes: Classes) -> Iterator[Drawn]:
    kinds: dict[str, str] = {}
    for member in source.members:
        if posixpath.basename(member).lower() == "meta.json":
            try:
                for one in entries(load_json(source.file(member)), "classes"):
                    classes.colors.setdefault(str(one.get("title")), hex_color(one.get("color")))
                    kinds[str(one.get("title"))] = str(one.get("shape"))
            except PlaceError as error:
                raise UserError(f"{source.where(member)} {error}.") from None
    for member in chosen(source, options, lambda name: bool(FILE.fullmatch(name))):
        path = PurePosixPath(member)
        # Old exports name the file without the extension of the image.
        drawn = Drawn(member, _images(source, path))
        try:
            content = load_json(source.file(member))
            extent = content.get("size") if isinstance(content, dict) else None
            if not isinstance(extent, dict):
                raise PlaceError('has no "size", so it is not a file of Supervisely')
            drawn.size = size_of(extent.get("width"), extent.get("height"))
            objects = entries(content, "objects")
        except (PlaceError, UserError) as error:
            yield unusable(source.where(member), error)
            continue
        for place, one in enumerate(objects, 1):
            with reported(drawn.problems, f"object {place}"):
                name = str(one.get("classTitle"))
                kind = str(one.get("geometryType") or kinds.get(name))
                if kind in _NO_AREA:
                    drawn.omitted[kind] += 1
                else:
                    drawn.shapes.append(Shape(name, (_part(one, kind),)))
        yield drawn


def _images(source: SourceFolder, path: PurePosixPath) -> list[str]:
    folder = path.parent.parent / "img"
    names = [str(folder / path.stem)]
    there = {name for name in source.members if name.startswith(f"{folder}/")} if path.stem else set()
    names += [name for name in there if PurePosixPath(name).stem == path.stem]
    return names


def _part(one: dict[str, Any], kind: str) -> Part:
    bitmap = one.get("bitmap")
    if isinstance(bitmap, dict) and bitmap.get("data"):
        return _bitmap(bitmap)
    points = one.get("points")
    exterior = points.get("exterior") if isinstance(points, dict) else None
    if kind == "rectangle" or (isinstance(exterior, list) and len(exterior) == 2):
        try:
            (left, top), (right, bottom) = np.array(exterior, np.float64)
        except (TypeError, ValueError):
            raise PlaceError("is a rectangle without two corners") from None
        left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
        return Polygon((rectangle(left, top, right + 1, bottom + 1),))
    if exterior is None:
        raise PlaceError(f"is of the kind {kind}, which is not read")
    rings = [ring_of(exterior), *map(ring_of, points.get("interior") or [])]  # type: ignore[union-attr]
    return Polygon(tuple(ring + 0.5 for ring in rings))


def _bitmap(bitmap: dict[str, Any]) -> Mask:
    try:
        left, top = (int(x) for x in bitmap["origin"])
        with Image.open(io.BytesIO(zlib.decompress(base64.b64decode(bitmap["data"])))) as image:
            # The pixels are opaque, or not 0 in a mask without alpha.
            values = np.asarray(image.getchannel("A") if "A" in image.getbands() else image.convert("L"))
    except Exception as error:  # the data may be damaged in any way
        raise PlaceError(f"has a bitmap that cannot be read ({str(error) or type(error).__name__})") from None
    return Mask.of(values > 0, left, top)
