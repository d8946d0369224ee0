"""Label Studio: JSON or JSON-MIN, with polygons, rectangles, ellipses and brush strokes.

Coordinates are percentages of the image. Brush strokes are RGBA pixels, packed as `_unpack` says; those that
are not transparent belong to the stroke. Source: the tags of labelstud.io, and "rle-pack" of thi.ng/umbrella.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ....data.polygons import ellipse, rectangle, turned
from ....errors import UserError
from ..drawn import Classes, Drawn, chosen, unusable
from ..release import PrepareOptions, Release
from ..shape_release import release_of
from ..shapes import Mask, Part, Polygon, Shape, Size
from ..source import SourceFolder
from ..texts import PlaceError, load_json, number, reported, ring_of, size_of

_LABELS = "labels"  # the key of the names ends with it: polygonlabels, brushlabels, ...
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts this before the name of an uploaded file


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are the names of all shapes, sorted, because the JSON does not hold the list of labels."""
    classes = Classes(by_name=True)
    return release_of(
        source, options, _drawn(source, options, classes), classes, wanted="JSON export of Label Studio"
    )


def is_tasks(content: Any) -> bool:
    """Whether JSON is an export of Label Studio."""
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    return any(key in content[0] for key in ("annotations", "completions", "annotation_id"))


def _drawn(source: SourceFolder, options: PrepareOptions, classes: Classes) -> Iterator[Drawn]:
    for member in chosen(source, options, lambda name: name.lower().endswith(".json")):
        try:
            content = load_json(source.file(member))
        except UserError as error:
            yield unusable(source.where(member), error)
            continue
        if not is_tasks(content):
            if content != []:  # an empty export, which is reported as such
                source.opened.discard(member)
            continue
        several = unfinished = 0
        for place, task in enumerate(content, 1):
            if not isinstance(task, dict):
                yield Drawn(member, (), problems=[f"task {place} is not an object"])
                continue
            made = [one for one in _annotations(task) if isinstance(one, dict)]
            done = [one for one in made if not one.get("was_cancelled")]
            several += len(done) > 1
            unfinished += not done
            if done:
                # The one that a reviewer has marked as true, or else the last one.
                best = next((one for one in done if one.get("ground_truth")), done[-1])
                yield _of_task(member, task, place, _list(best.get("result")))
        where = source.where(member)
        if several:
            classes.notes.append(
                f"{where}: {several} tasks have several annotations; the one marked as ground truth is used, "
                f"or else the last."
            )
        if unfinished:
            classes.notes.append(f"{where}: {unfinished} tasks have no annotation, and are omitted.")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _annotations(task: dict[str, Any]) -> list[Any]:
    for key in ("annotations", "completions"):
        if isinstance(task.get(key), list):
            return task[key]
    # JSON-MIN has the shapes of each tag in a list that the tag names.
    shapes = [
        shape
        for value in task.values()
        if isinstance(value, list)
        for shape in value
        if isinstance(shape, dict) and "original_width" in shape
    ]
    return [{"result": shapes}]


def _of_task(member: str, task: dict[str, Any], place: int, results: list[Any]) -> Drawn:
    drawn = Drawn(member, _names(task))
    if not drawn.image:
        return Drawn(member, (), problems=[f"task {task.get('id', place)} names no image"])
    for number_, result in enumerate(results, 1):
        with reported(drawn.problems, f"task {task.get('id', place)}, shape {number_}"):
            value = result.get("value", result)
            names = next((found for key, found in value.items() if key.endswith(_LABELS)), None)
            size = size_of(result.get("original_width"), result.get("original_height"))
            if names is None or size is None:
                drawn.omitted[str(result.get("type") or "choice")] += 1
                continue
            if result.get("image_rotation"):
                raise PlaceError(
                    f"was drawn on the image turned by {result['image_rotation']} degrees, which is not read"
                )
            if drawn.size is not None and size != drawn.size:
                raise PlaceError(
                    f"is for an image of {size[0]} x {size[1]} pixels, and another for {drawn.size[0]} x "
                    f"{drawn.size[1]}"
                )
            drawn.size = size
            part = _part(value, size)
            if part is None:
                drawn.omitted[str(result.get("type") or "point")] += 1
            elif isinstance(names, list) and names:
                drawn.shapes.append(Shape(str(names[0]), (part,)))
            else:
                raise PlaceError("has no label")
    return drawn


def _names(task: dict[str, Any]) -> list[str]:
    """The names that the image of a task may have, the most precise first."""
    data = task.get("data")
    values = data.values() if isinstance(data, dict) else [task.get("image"), *task.values()]
    said = next(
        (value for value in values if isinstance(value, str) and re.search(r"\.\w{2,5}\b", value)), ""
    )
    if not said:
        return []
    url = urlsplit(said)
    path = unquote(parse_qs(url.query).get("d", [url.path])[0]).strip("/")
    names = [path, str(task.get("file_upload") or path)]
    name = path.rpartition("/")[2]
    if _UPLOADED.match(name):
        names.append(_UPLOADED.sub("", name, count=1))
    return list(dict.fromkeys(names))


def _part(value: dict[str, Any], size: Size) -> Part | None:
    """A shape, or None if it has no area. Raises: PlaceError."""
    width, height = size
    if value.get("rle") is not None:
        return Mask.of(_brush(value["rle"], size))
    if "points" in value:
        return Polygon((ring_of(value["points"]) * (width / 100, height / 100),))
    if "radiusX" in value:
        x, y, across, down = (number(value.get(key), key) for key in ("x", "y", "radiusX", "radiusY"))
        across, down = across * width / 100, down * height / 100
        turn = number(value.get("rotation") or 0, "rotation")
        return Polygon((ellipse(x * width / 100, y * height / 100, across, down, turn),))
    if "width" in value:
        x, y, wide, high = (number(value.get(key), key) for key in ("x", "y", "width", "height"))
        ring = rectangle(x, y, x + wide, y + high) * (width / 100, height / 100)
        turn = number(value.get("rotation") or 0, "rotation")
        return Polygon((turned(ring, turn, (float(ring[0, 0]), float(ring[0, 1]))),))
    return None


def _brush(packed: Any, size: Size) -> np.ndarray:
    """The pixels of a brush stroke, (H, W) bool. Raises: PlaceError."""
    width, height = size
    try:
        values = _unpack(bytes(packed))
    except (TypeError, ValueError):
        raise PlaceError("has run lengths that cannot be read") from None
    if len(values) != 4 * width * height:
        raise PlaceError(
            f"has run lengths of {len(values) / 4:g} pixels, but its image has {width} x {height}, "
            f"{width * height}"
        )
    return values.reshape(height, width, 4)[..., 3] > 0


def _unpack(packed: bytes) -> np.ndarray:
    """The values of packed run lengths, (N,) uint8.

    A stream of bits: the number of values (32 bits), the bits of a value less 1 (5), and the bits of four
    kinds of lengths less 1 (4 each). Then come runs: 1 if one value is repeated, 0 if each is different; the
    kind of length (2 bits); the length less 1; and the value or values.

    Raises: ValueError if the stream ends early, or holds values of more than 8 bits.
    """
    stream = "".join(f"{byte:08b}" for byte in packed)  # slices of text are faster than shifts of a long int
    place = 0

    def take(bits: int) -> int:
        nonlocal place
        place += bits
        if place > len(stream):
            raise ValueError("the stream ends early")
        return int(stream[place - bits : place], 2)

    count, bits = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if bits > 8:
        raise ValueError(f"values of {bits} bits")
    runs: list[np.ndarray] = []
    found = 0
    while found < count:
        repeated, length = take(1), take(lengths[take(2)]) + 1
        if repeated:
            runs.append(np.full(length, take(bits), np.uint8))
        else:
            runs.append(np.array([take(bits) for _ in range(length)], np.uint8))
        found += length
    return np.concatenate(runs)[:count] if runs else np.zeros(0, np.uint8)
