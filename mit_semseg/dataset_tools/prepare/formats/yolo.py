"""YOLO: a text file for each image, with a line ``CLASS x1 y1 x2 y2 ...`` for each polygon, from 0 to 1.

``labels/a.txt`` belongs to ``images/a.jpg``, or to ``a.jpg`` in the same folder. The names of the classes are
in ``data.yaml``, ``classes.txt`` or ``obj.names``.
Source: "Instance Segmentation Datasets Overview" of docs.ultralytics.com.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import yaml

from ....data.files import IMAGE_EXTENSIONS, naming
from ....errors import UserError
from ..drawn import Classes, Drawn, chosen, unusable
from ..release import PrepareOptions, Release
from ..shape_labels import views
from ..shape_release import release_of
from ..shapes import Polygon, Shape, Size
from ..source import SourceFolder, some
from ..texts import PlaceError, number, reported, ring_of

_NAMES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")
_BOX = 5  # cells in a line that is a box: the class, its centre and its size


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """Class k of a line is class k + 1. Boxes are omitted, because they are not outlines."""
    classes = Classes()
    return release_of(
        source,
        options,
        _drawn(source, options, classes),
        classes,
        wanted="labels/*.txt with a line CLASS x1 y1 x2 y2 ... for each polygon",
    )


def image_of(member: str, there: set[str]) -> list[str]:
    """The images that a text file may belong to, by its name; [] if it is not a file of labels."""
    if not member.lower().endswith(".txt") or posixpath.basename(member).lower() in _NAMES:
        return []
    stem = str(PurePosixPath(member).with_suffix(""))
    stems = [stem]
    parts = stem.split("/")
    for place in reversed(range(len(parts) - 1)):
        if parts[place].lower() == "labels":
            stems.insert(0, "/".join([*parts[:place], "images", *parts[place + 1 :]]))
    endings = [*IMAGE_EXTENSIONS, *(ending.upper() for ending in IMAGE_EXTENSIONS)]
    return [stem + ending for stem in stems for ending in endings if stem + ending in there]


def is_label(member: str, there: set[str]) -> bool:
    """Whether a member is a file of labels."""
    folders = posixpath.dirname(member).lower().split("/")
    is_text = member.lower().endswith(".txt") and posixpath.basename(member).lower() not in _NAMES
    return is_text and ("labels" in folders or bool(image_of(member, there)))


def _drawn(source: SourceFolder, options: PrepareOptions, classes: Classes) -> Iterator[Drawn]:
    there = set(source.members)
    members = chosen(source, options, lambda name: is_label(name, there))
    if not members:
        return
    names, largest = _names(source, classes), -1
    for member in members:
        images = image_of(member, there)
        if not images:
            yield Drawn(member, (), problems=[f"there is no image called {PurePosixPath(member).stem}"])
            continue
        drawn = Drawn(member, images[:1])
        path = source.file(member)
        with naming(path):
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        try:
            drawn.size = views(source.file(images[0]))[1]
        except UserError as error:
            yield unusable(source.where(member), error)
            continue
        for place, line in enumerate(lines, 1):
            cells = line.split()
            with reported(drawn.problems, f"line {place}"):
                if len(cells) == _BOX:
                    drawn.omitted["box"] += 1
                elif cells:
                    k, part = _polygon(cells, drawn.size)
                    if names is None:
                        largest = max(largest, k)
                    elif k >= len(names):
                        raise PlaceError(f"has the class {k}, but there are {len(names)} names, from 0")
                    drawn.shapes.append(Shape(names[k] if names else f"class {k}", (part,)))
        yield drawn
    if names is None:
        classes.colors = {f"class {k}": None for k in range(largest + 1)}
        classes.notes.append("No data.yaml or classes.txt names the classes, so they have numbers.")


def _polygon(cells: list[str], size: Size) -> tuple[int, Polygon]:
    if not cells[0].isdecimal():
        raise PlaceError(f'begins with "{cells[0]}", which is not the number of a class')
    if len(cells) % 2 == 0:
        raise PlaceError(f"has {len(cells) - 1} numbers after the class, which are not pairs")
    numbers = np.array([number(cell, "the number") for cell in cells[1:]])
    if numbers.max() > 2:
        raise PlaceError(f"has the coordinate {numbers.max():g}; they go from 0 to 1")
    ring = ring_of(numbers.reshape(-1, 2) * size)
    return int(cells[0]), Polygon((ring,))


def _names(source: SourceFolder, classes: Classes) -> list[str] | None:
    """The names of the classes by their numbers; None if no file has them. Raises: UserError."""
    found: dict[str, list[str]] = {}
    for member in source.members:
        name = posixpath.basename(member).lower()
        if name in _NAMES and not re.search(r"(^|/)labels/.*/", member):
            with naming(source.where(member)):
                text = source.file(member).read_text(encoding="utf-8-sig")
            found[member] = [line.strip() for line in text.splitlines() if line.strip()]
        elif name.endswith((".yaml", ".yml")):
            names = _of_yaml(source, member)
            if names:
                found[member] = names
    if not found:
        return None
    first, *others = found
    if any(found[other] != found[first] for other in others):
        raise UserError(
            f"{source.path} names the classes differently in {some(list(found))}. Keep one of them."
        )
    names = found[first]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        classes.notes.append(f"Names that occur twice, and are one class: {some(double, 10)}.")
    classes.colors = dict.fromkeys(names)
    return names


def _of_yaml(source: SourceFolder, member: str) -> list[str]:
    """The names in a YAML file; [] if it has none. Raises: UserError."""
    path = source.path / member
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as YAML ({error}).") from None
    names = content.get("names") if isinstance(content, dict) else None
    if names is None:
        return []
    source.file(member)
    if isinstance(names, dict):
        if not all(isinstance(k, int) and k >= 0 for k in names):
            raise UserError(f"{path}: the keys of names must be numbers from 0.")
        return [str(names.get(k, f"class {k}")) for k in range(max(names, default=-1) + 1)]
    if not isinstance(names, list):
        raise UserError(f"{path}: names is neither a list nor a table of numbers and names.")
    return [str(name) for name in names]
