"""LabelMe: a JSON file for each image, with shapes in pixels. Later shapes cover earlier ones.

Shapes are drawn with Pillow, as LabelMe draws them in labelme/utils/shape.py of github.com/wkentaro/labelme.
"""

import base64
import binascii
import contextlib
import io
import json
import posixpath
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError
from tqdm import tqdm

from ....data.classes import ClassTable, palette
from ....data.files import IMAGE_EXTENSIONS, naming
from ....data.orientation import orientation_of, turned_to_stored, upright_size
from ....data.polygons import crosses_itself
from ....errors import UserError
from ..names import read_names
from ..release import Assigned, PrepareOptions, Release, SourcePair
from ..source import SourceFolder, some
from ..splits import split_of_folder
from ..survey import on_shapes

_LINE_WIDTH = 10  # of a line and a linestrip, in pixels, as LabelMe draws them
_POINT_RADIUS = 5
_FEWEST_POINTS = {
    "polygon": 3,
    "oriented_rectangle": 4,
    **dict.fromkeys(("rectangle", "circle", "line", "linestrip", "mask"), 2),
}
_BACKGROUND = "_background_"  # LabelMe's names for pixels of no class
_IGNORED = "__ignore__"


@dataclass(frozen=True)
class LabelMeShapes:
    """Draws the shapes of a LabelMe file."""

    numbers: dict[str, int]
    """The value of each name; shapes with other names are not drawn."""
    background: int = 0
    follows_exif = True

    def assigned(self, label: Path) -> Assigned:
        return Assigned()

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        content = load(label)
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            size, orientation = opened.size, orientation_of(opened)
        upright = upright_size(size, orientation)
        try:
            drawn_on = (
                int(content.get("imageWidth") or upright[0]),
                int(content.get("imageHeight") or upright[1]),
            )
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{label}: imageWidth or imageHeight is not a number of pixels.") from None
        # LabelMe shows images upright; other programs that write its format may show them as stored.
        turned = drawn_on == upright
        if not turned and drawn_on != size:
            raise UserError(
                f"{label} was drawn on {drawn_on[0]} x {drawn_on[1]} pixels, but its image has "
                f"{size[0]} x {size[1]}. It belongs to another image, or the image was scaled later."
            )
        canvas = Image.new("I", drawn_on, self.background)
        for number, shape in enumerate(content["shapes"], 1):
            try:
                name = str(shape.get("label") or "")
                if not name:
                    raise UserError(f"{label}: shape {number} has no class.")
                if name in self.numbers:
                    _draw(canvas, shape, self.numbers[name])
            except UserError:
                raise
            except UnidentifiedImageError:
                raise UserError(
                    f"{label}: shape {number} cannot be drawn (its mask is not an image)."
                ) from None
            except Exception as error:  # a shape may hold anything, also a damaged mask
                why = error if isinstance(error, ValueError) else repr(error)
                raise UserError(f"{label}: shape {number} cannot be drawn ({why}).") from None
        stored = turned_to_stored(canvas, orientation) if turned else canvas
        return np.asarray(stored).astype(np.uint16)

    def embedded(self, label: Path) -> bytes:
        data = load(label).get("imageData")
        if not isinstance(data, str):
            raise UserError(f"{label} names an image that does not exist, and does not hold it either.")
        try:
            return base64.b64decode(data, validate=False)
        except (ValueError, binascii.Error):
            raise UserError(f"{label}: imageData is not an image in base64.") from None


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are the names in all files, sorted, or those of --names; other shapes are not drawn."""
    members = source.members
    there = set(members)
    used: dict[str, int] = {}
    pairs, problems = [], []
    texts = [name for name in members if name.lower().endswith(".json")]
    strange = 0
    clipped: list[str] = []
    crossing: list[str] = []
    with tqdm(texts, "reading names", unit="file", disable=None) as bar:
        for member in bar:
            try:
                content = load(source.file(member))
            except _OtherJsonError:
                strange += 1
                continue
            except UserError as error:
                problems.append(str(error))
                continue
            for number, shape in enumerate(content["shapes"], 1):
                name = str(shape.get("label") or "") if isinstance(shape, dict) else ""
                used[name] = used.get(name, 0) + 1
                _look(shape, content, f"{source.where(member)}: shape {number}", clipped, crossing)
            pairs.append(_pair(member, str(content.get("imagePath") or ""), there))
    pairs, twice = _annotated_once(source, pairs)
    problems += twice
    if pairs and not used and not problems:
        raise UserError(
            f"{source.path}: the export is empty: {len(pairs)} images, and no shape. Label some images."
        )
    tests = [pair for pair in pairs if pair.split == "test"]
    pairs = [pair for pair in pairs if pair.split != "test"]
    if not pairs and not tests and not problems:
        raise source.nothing_found('JSON file of LabelMe (with "shapes" and "imagePath")')
    notes = [f"{strange} other JSON files are omitted."] if strange else []
    notes += [f"{len(tests)} images of the test part are omitted."] if tests else []
    notes += on_shapes(clipped, crossing)
    return _release(pairs, used, notes, problems, options)


def _release(
    pairs: list[SourcePair],
    used: dict[str, int],
    notes: list[str],
    problems: list[str],
    options: PrepareOptions,
) -> Release:
    if options.names is None:
        names = sorted(name for name in used if name not in ("", _BACKGROUND, _IGNORED))
    else:
        names = list(read_names(options.names).table.names)
        if options.background is not None and options.background not in names:
            raise UserError(f'{options.names} does not name the background, "{options.background}".')
        left = [
            f'"{name}" ({used[name]})'
            for name in sorted(used.keys() - set(names))
            if not name.startswith("_")
        ]
        if left:
            notes.append(f"Shapes that {options.names} does not name are omitted: {some(left, 10)}.")
    background = 0
    if options.background is not None:
        names = (
            [options.background, *(name for name in names if name != options.background)]
            if (options.names is None)
            else names
        )
        background = names.index(options.background) + 1
    numbers = {name: number for number, name in enumerate(names, 1)}
    drawn = {_BACKGROUND: background, _IGNORED: 0, **numbers}
    if background == 0:
        notes.append(
            "Pixels outside of all shapes are unlabelled, so training ignores them; --background makes them "
            "a class."
        )
    if len(names) > 65535:
        raise UserError(f"The files name {len(names)} classes, but at most 65535 are possible.")
    colors = palette(len(names))
    return Release(
        pairs,
        LabelMeShapes(drawn, background),
        coding={0: 0, **{number: number for number in numbers.values()}},
        classes=ClassTable(tuple(names), colors),
        values={n: (name, tuple(colors[n - 1].tolist())) for name, n in numbers.items()},
        notes=notes,
        problems=problems,
    )


class _OtherJsonError(UserError):
    """A JSON file that LabelMe did not write."""


def load(path: Path) -> dict[str, Any]:
    """The content of a LabelMe file. Raises: UserError."""
    with naming(path):
        text = path.read_bytes()
    try:
        content = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}).") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise _OtherJsonError(f'{path} has no list of "shapes", so it is not a LabelMe file.')
    return content


def _pair(member: str, image_path: str, there: set[str]) -> SourcePair:
    """A LabelMe file with its image: at the path in the file, else beside it, else in it."""
    stem = str(PurePosixPath(member).with_suffix(""))
    folder = posixpath.dirname(member)
    said = image_path.replace("\\", "/")  # written on Windows
    beside = [
        posixpath.normpath(posixpath.join(folder, said)),
        posixpath.join(folder, posixpath.basename(said)),
    ]
    beside += [stem + extension for extension in IMAGE_EXTENSIONS]
    beside += [stem + extension.upper() for extension in IMAGE_EXTENSIONS]
    image = next((name for name in beside if name in there), "")
    *folders, name = stem.split("/")
    splits = [split_of_folder(part) for part in folders]
    split = next((said for said in splits if said), "")
    kept = [part for part, said in zip(folders, splits, strict=True) if not said]
    return SourcePair("/".join([*kept, name]), member, image, split)


def _annotated_once(source: SourceFolder, pairs: list[SourcePair]) -> tuple[list[SourcePair], list[str]]:
    """The pairs whose image has one file, and a problem for each image that has several."""
    files: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.image:
            files.setdefault(pair.image, []).append(pair.label)
    twice = {image: labels for image, labels in files.items() if len(labels) > 1}
    problems = [
        f"{source.where(image)} is annotated in {' and in '.join(map(source.where, labels))}. "
        f"Keep one of them."
        for image, labels in twice.items()
    ]
    return [pair for pair in pairs if pair.image not in twice], problems


def _look(shape: Any, content: dict[str, Any], place: str, clipped: list[str], crossing: list[str]) -> None:
    """Adds the place of a shape to those it belongs to. What is malformed is reported when it is drawn."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        points = np.array(shape["points"], np.float64)
        size = np.array([float(content["imageWidth"]), float(content["imageHeight"])])
        if (points.min(0) < -1).any() or (points.max(0) > size + 1).any():
            clipped.append(place)
        if (shape.get("shape_type") or "polygon") == "polygon" and crosses_itself(points):
            crossing.append(place)


def _draw(canvas: Image.Image, shape: dict[str, Any], value: int) -> None:
    """Draws one shape. Raises: errors of many kinds for points or a mask that cannot be drawn."""
    draw = ImageDraw.Draw(canvas)
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not finite")
    kind = shape.get("shape_type") or "polygon"
    least = _FEWEST_POINTS.get(kind, 1)
    if len(points) < least:
        raise ValueError(f"a {kind} of {len(points)} points")
    if kind in ("polygon", "oriented_rectangle"):
        draw.polygon(points, fill=value, outline=value)
    elif kind == "rectangle":
        xs, ys = zip(*points, strict=True)
        draw.rectangle((min(xs), min(ys), max(xs), max(ys)), fill=value, outline=value)
    elif kind == "circle":
        (x, y), (edge_x, edge_y) = points[:2]
        radius = float(np.hypot(edge_x - x, edge_y - y))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value, outline=value)
    elif kind in ("line", "linestrip"):
        draw.line(points, fill=value, width=_LINE_WIDTH)
    elif kind in ("point", "points"):
        for x, y in points:
            box = (x - _POINT_RADIUS, y - _POINT_RADIUS, x + _POINT_RADIUS, y + _POINT_RADIUS)
            draw.ellipse(box, fill=value, outline=value)
    elif kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as mask:
            left, top = (round(min(side)) for side in zip(*points, strict=True))
            canvas.paste(value, (left, top, left + mask.width, top + mask.height), mask.convert("1"))
    else:
        raise ValueError(f"unknown shape_type {kind}")
