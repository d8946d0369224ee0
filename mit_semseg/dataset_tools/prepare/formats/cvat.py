"""CVAT: the XML of "CVAT for images 1.1", or the mask export "Segmentation mask 1.1".

Shapes lie above each other by ``z_order``. A mask's run lengths go along the rows of its box, and begin with
those outside. Source: "XML annotation format" and "Segmentation mask" in the documentation of docs.cvat.ai.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from xml.etree import ElementTree

import numpy as np

from ....data import rle
from ....data.files import naming
from ....data.polygons import ellipse, rectangle, turned
from ....errors import UserError
from ..drawn import Classes, Drawn, chosen, hex_color, refuse_options_of_shapes, unusable
from ..release import PrepareOptions, Release
from ..shape_release import release_of
from ..shapes import Mask, Part, Polygon, Shape
from ..source import SourceFolder
from ..splits import split_of_folder
from ..texts import PlaceError, number, reported, ring_of, size_of
from . import rgb

_MOST = 2**28  # pixels in the box of a mask
_START = 4096  # bytes that show what an XML file is
_NO_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")
_MASKS, _OBJECTS = "SegmentationClass", "SegmentationObject"


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are the labels of the task in its order, or the rows of ``labelmap.txt``."""
    if not any(_is_xml(source, name) for name in source.members):
        folders = {PurePosixPath(name).parent for name in source.members if _is_mask(name)}
        maps = [name for name in source.members if name.split("/")[-1].lower() == "labelmap.txt"]
        if folders and maps:
            return _of_masks(source, options)
    classes = Classes(by_name=True)
    return release_of(
        source,
        options,
        _drawn(source, options, classes),
        classes,
        wanted=f"XML of CVAT for images 1.1, and no labelmap.txt with {_MASKS}/*.png",
    )


def _of_masks(source: SourceFolder, options: PrepareOptions) -> Release:
    """The mask export: colours by ``labelmap.txt``, and the splits of ``ImageSets/Segmentation``."""
    refuse_options_of_shapes(options, _MASKS)
    # The masks of instances, which hold other colours, could be taken for images.
    semantic = source.only(name for name in source.members if f"/{_OBJECTS}/" not in f"/{name}")
    release = rgb.read(semantic, replace(options, label_folder=_MASKS))
    split_of = {}
    for member in source.members:
        path = PurePosixPath(member)
        split = split_of_folder(path.stem)
        if split and path.suffix == ".txt" and path.parent.name == "Segmentation":
            with naming(source.where(member)):
                names = source.file(member).read_text(encoding="utf-8-sig").splitlines()
            split_of.update({name.strip(): split for name in names})
    pairs = [
        replace(pair, split=pair.split or split_of.get(PurePosixPath(pair.label).stem, ""))
        for pair in release.pairs
    ]
    tests = sum(pair.split == "test" for pair in pairs)
    notes = [f"{tests} images of the test part are omitted."] if tests else []
    return replace(
        release,
        pairs=[pair for pair in pairs if pair.split != "test"],
        notes=release.notes + notes,
    )


def _drawn(source: SourceFolder, options: PrepareOptions, classes: Classes) -> Iterator[Drawn]:
    for member in chosen(source, options, lambda name: _is_xml(source, name)):
        path = source.file(member)
        try:
            with path.open("rb") as file:
                for _, element in ElementTree.iterparse(file):
                    if element.tag == "label" and element.findtext("name"):
                        name = (element.findtext("name") or "").strip()
                        classes.colors.setdefault(name, hex_color(element.findtext("color")))
                    elif element.tag == "track":
                        raise UserError(
                            f"{path} is CVAT's XML for video. Export the task as CVAT for images 1.1."
                        )
                    elif element.tag == "image":
                        yield _of_image(member, element)
                        element.clear()
        except ElementTree.ParseError as error:
            yield unusable(str(path), PlaceError(f"is not XML ({error})"))
        except OSError as error:
            yield unusable(str(path), PlaceError(f"cannot be read: {error.strerror}"))


def _of_image(member: str, image: ElementTree.Element) -> Drawn:
    drawn = Drawn(member, [image.get("name", "")])
    drawn.split = split_of_folder(image.get("subset", "")) or ""
    found = []
    with reported(drawn.problems, "the image"):
        drawn.size = size_of(image.get("width"), image.get("height"))
    for place, element in enumerate(image, 1):
        if element.tag in _NO_AREA:
            drawn.omitted[element.tag] += 1
            continue
        with reported(drawn.problems, f"{element.tag} {place}"):
            shape = Shape(element.get("label", ""), (_part(element),))
            found.append((number(element.get("z_order", 0), "the z_order"), shape))
    drawn.shapes = [shape for _, shape in sorted(found, key=lambda one: one[0])]
    return drawn


def _part(element: ElementTree.Element) -> Part:
    def value(name: str, default: float | None = None) -> float:
        return number(element.get(name, default), name)

    if element.tag == "polygon":
        return Polygon((ring_of([point.split(",") for point in element.get("points", "").split(";")]),))
    if element.tag == "box":
        ring = rectangle(value("xtl"), value("ytl"), value("xbr"), value("ybr"))
        middle = (float(ring[:, 0].mean()), float(ring[:, 1].mean()))
        return Polygon((turned(ring, value("rotation", 0), middle),))
    if element.tag == "ellipse":
        return Polygon((ellipse(value("cx"), value("cy"), value("rx"), value("ry"), value("rotation", 0)),))
    if element.tag == "mask":
        left, top, width, height = (int(value(name)) for name in ("left", "top", "width", "height"))
        if not 0 < width * height <= _MOST:
            raise PlaceError(f"has a box of {width} x {height} pixels")
        try:
            runs = np.array([int(run) for run in element.get("rle", "").split(",")], np.int64)
            return Mask.of(rle.fill(runs, width * height).reshape(height, width), left, top)
        except ValueError as error:
            raise PlaceError(f"has run lengths that cannot be read: {error}") from None
    raise PlaceError("is not a shape that this format knows")


def _is_xml(source: SourceFolder, member: str) -> bool:
    """Whether a member is XML by CVAT."""
    if not member.lower().endswith(".xml"):
        return False
    try:
        with source.path.joinpath(member).open("rb") as file:
            return b"<annotations" in file.read(_START)
    except OSError:
        return False


def _is_mask(member: str) -> bool:
    return PurePosixPath(member).parent.name == _MASKS and member.lower().endswith(".png")
