"""LabelMe: a JSON file an image, with shapes in pixels; later shapes lie over earlier ones.

Source of the shapes' meaning: labelme/utils/shape.py of github.com/wkentaro/labelme.
"""

import base64
import binascii
import io
import json
import posixpath
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError
from tqdm import tqdm

from ...errors import UserError
from ..classes import ClassTable, palette
from ..files import IMAGE_EXTENSIONS, naming
from .naming import read_names
from .options import Options
from .release import Example, Release, nothing_found, some
from .source import Source
from .splits import split_of_folder

_LINE_WIDTH = 10  # of a line and a linestrip, in pixels, as LabelMe draws them
_POINT_RADIUS = 5
_BACKGROUND = "_background_"  # LabelMe's names for what is no class
_IGNORED = "__ignore__"
_ORIENTATION = 0x0112  # EXIF
# From upright back to how the file holds the pixels, by EXIF orientation.
_TO_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Shapes:
    """Draws the shapes of a LabelMe file."""

    numbers: dict[str, int]
    """The value of each name; others are not drawn."""
    background: int = 0
    names: dict[str, str] = field(default_factory=dict)

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        content = load(label)
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            size, turn = opened.size, opened.getexif().get(_ORIENTATION, 1)
        upright = size[::-1] if turn >= 5 else size
        try:
            drawn_on = tuple(
                int(content.get(key) or upright[k]) for k, key in enumerate(("imageWidth", "imageHeight"))
            )
        except (TypeError, ValueError):
            raise UserError(f"{label}: imageWidth or imageHeight is no number of pixels.") from None
        # LabelMe shows images upright; other programs that write its format may not.
        turned = turn in _TO_STORED and drawn_on == upright
        if drawn_on != (upright if turned else size):
            raise UserError(
                f"{label} was drawn on {drawn_on[0]} x {drawn_on[1]} pixels, but its image has "
                f"{size[0]} x {size[1]}. It belongs to another image, or that was scaled since."
            )
        canvas = Image.new("I", drawn_on, self.background)
        for number, shape in enumerate(content["shapes"], 1):
            try:
                name = str(shape["label"])
                if name in self.numbers:
                    _draw(canvas, shape, self.numbers[name])
            except UnidentifiedImageError:
                raise UserError(f"{label}: shape {number} cannot be drawn (its mask is no image).") from None
            except (
                Exception
            ) as error:  # what a shape of any content raises, a damaged mask's decoder included
                raise UserError(f"{label}: shape {number} cannot be drawn ({error!r}).") from None
        stored = canvas.transpose(_TO_STORED[turn]) if turned else canvas
        return np.asarray(stored).astype(np.uint16)

    def embedded(self, label: Path) -> bytes:
        data = load(label).get("imageData")
        if not isinstance(data, str):
            raise UserError(f"{label} names an image that is not there, and holds none itself.")
        try:
            return base64.b64decode(data, validate=False)
        except (ValueError, binascii.Error):
            raise UserError(f"{label}: imageData is no image in base64.") from None


def read(source: Source, options: Options) -> Release:
    """The names in all files, sorted, are the classes; with --names those, and other shapes are not drawn."""
    members = source.members()
    there = set(members)
    used: dict[str, int] = {}
    examples, problems = [], []
    texts = [name for name in members if name.lower().endswith(".json")]
    strange = 0
    with tqdm(texts, "reading names", unit="file", disable=None) as bar:
        for member in bar:
            try:
                with source.local(member) as path:
                    content = load(path)
            except _OtherJsonError:
                strange += 1
                continue
            except UserError as error:
                problems.append(str(error))
                continue
            for shape in content["shapes"]:
                name = str(shape.get("label")) if isinstance(shape, dict) else ""
                used[name] = used.get(name, 0) + 1
            examples.append(_example(member, str(content.get("imagePath") or ""), there))
    tests = [example for example in examples if example.split == "test"]
    examples = [example for example in examples if example.split != "test"]
    if not examples and not tests and not problems:
        raise nothing_found(source.path, 'JSON file of LabelMe (with "shapes" and "imagePath")', members)
    notes = [f"{strange} other JSON files are left out."] if strange else []
    notes += [f"{len(tests)} images of the test part are left out."] if tests else []
    return _release(examples, used, notes, problems, options)


def _release(
    examples: list[Example], used: dict[str, int], notes: list[str], problems: list[str], options: Options
) -> Release:
    if options.names is None:
        names = sorted(name for name in used if name not in ("", _BACKGROUND, _IGNORED))
    else:
        names = list(read_names(options.names).names)
        if options.background is not None and options.background not in names:
            raise UserError(f'{options.names} does not name the background, "{options.background}".')
        left = [
            f'"{name}" ({used[name]})'
            for name in sorted(used.keys() - set(names))
            if not name.startswith("_")
        ]
        if left:
            notes.append(f"Shapes that {options.names} does not name are left out: {some(left, 10)}.")
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
            "Pixels outside of all shapes are unlabelled, so training ignores them; --background changes it."
        )
    if len(names) > 65535:
        raise UserError(f"The files name {len(names)} classes; 65535 fit.")
    colors = palette(len(names))
    return Release(
        examples,
        Shapes(drawn, background),
        coding={0: 0, **{number: number for number in numbers.values()}},
        classes=ClassTable(tuple(names), colors),
        values={n: (name, tuple(colors[n - 1].tolist())) for name, n in numbers.items()},
        notes=notes,
        problems=problems,
    )


class _OtherJsonError(UserError):
    """JSON of something else."""


def load(path: Path) -> dict[str, Any]:
    """The content of a LabelMe file. Raises: UserError."""
    with naming(path):
        text = path.read_bytes()
    try:
        content = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}).") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise _OtherJsonError(f'{path} has no list of "shapes", so it is not LabelMe\'s.')
    return content


def _example(member: str, image_path: str, there: set[str]) -> Example:
    """A LabelMe file with its image: where it says, else beside it, else in it."""
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
    return Example("/".join([*kept, name]), member, image, split)


def _draw(canvas: Image.Image, shape: dict[str, Any], value: int) -> None:
    """One shape. Raises: ValueError and the like for one that has no such points."""
    draw = ImageDraw.Draw(canvas)
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not finite")
    kind = shape.get("shape_type") or "polygon"
    least = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}.get(kind, 1)
    if len(points) < least:
        raise ValueError(f"a {kind} of {len(points)} points")
    if kind == "polygon":
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
