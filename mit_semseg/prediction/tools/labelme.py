"""LabelMe's JSON, a file for each image: masks without loss (since LabelMe 5.2), or polygons.

Source: labelme/_label_file.py and labelme/utils/shape.py of github.com/wkentaro/labelme.
"""

import base64
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...data.classes import ClassTable
from ...runtime.files import replacing
from .areas import Area

_VERSION = "5.2.0"  # the first one whose masks this writes
_MARK = "mit_semseg"  # key of the digest of the shapes, which LabelMe keeps when a person changes them


def save(path: Path, image: str, areas: Iterable[Area], size: Sequence[int], table: ClassTable) -> None:
    """Write the file of an image.

    Args:
        image: its path, which the file names relative to itself.
        size: (height, width) of the upright view, in pixels.

    Raises: UserError if the file cannot be written.
    """
    shapes = [_shape(area, table.names[area.k]) for area in areas]
    content: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(image, path.parent)).as_posix(),
        "imageData": None,
        "imageHeight": int(size[0]),
        "imageWidth": int(size[1]),
        _MARK: _digest(shapes),
    }
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def is_untouched(path: Path) -> bool:
    """Whether a file is as `save` has written it, with the same shapes: nobody has corrected it."""
    try:
        content = json.loads(path.read_bytes())
        return content[_MARK] == _digest(content["shapes"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _digest(shapes: list[dict[str, Any]]) -> str:
    texts = [[shape["label"], shape["points"], shape.get("mask")] for shape in shapes]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _shape(area: Area, name: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": name, "group_id": None, "description": "", "flags": {}}
    if area.ring is not None:
        return {**shape, "shape_type": "polygon", "points": area.ring.tolist(), "mask": None}
    height, width = area.pixels.shape
    file = io.BytesIO()
    Image.fromarray(area.pixels).save(file, format="PNG")
    # The second corner is the last pixel, not the one after it.
    corners = [[area.left, area.top], [area.left + width - 1, area.top + height - 1]]
    mask = base64.b64encode(file.getvalue()).decode("ascii")
    return {**shape, "shape_type": "mask", "points": corners, "mask": mask}
