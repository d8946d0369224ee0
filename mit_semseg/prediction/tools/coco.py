"""COCO's JSON of instances, one file for all images: run lengths without loss, or polygons.

Each line below "annotations" holds those of one image, so a resumed run finds an image without reading the
others. Source: "Data format" of cocodataset.org; pycocotools reads run lengths without ``iscrowd``, too.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ...data import rle
from ...data.classes import ClassTable
from .areas import Area

NAME = "predictions_coco.json"
_START = '{"image": '


def part(name: str, areas: Iterable[Area], size: Sequence[int], table: ClassTable) -> bytes:
    """The annotations of an image, as one line. They get their numbers in `whole`.

    Args:
        name: path of the image, as the tool knows it.
        size: (height, width) in pixels.
    """
    image = {"file_name": name, "height": int(size[0]), "width": int(size[1])}
    annotations = [{"image": image, **_annotation(area, size)} for area in areas]
    return (json.dumps(annotations)[1:-1] + "\n").encode()


def key_of(line: bytes) -> str | None:
    """The name of the image of a line; None for another line."""
    try:
        text = line.decode("ascii")
        if not text.startswith(_START) or (not text.endswith("}\n") and not text.endswith("},\n")):
            return None
        return str(json.JSONDecoder().raw_decode(text, len(_START))[0]["file_name"])
    except (ValueError, LookupError, TypeError):  # half a line of a run that was killed
        return None


def whole(lines: Callable[[], Iterable[bytes]], table: ClassTable) -> Iterator[bytes]:
    """The file in pieces, from the lines of `part`, which are read twice."""
    head = {
        "info": {"description": "Predictions of mit_semseg"},
        "categories": [
            {"id": k, "name": name, "supercategory": "", "color": color}
            for k, (name, color) in enumerate(zip(table.names, table.colors.tolist(), strict=True), 1)
        ],
    }
    yield (json.dumps(head)[:-1] + ', "images": [').encode()
    comma = ""
    for number, line in enumerate(lines(), 1):
        image = _annotations(line)[0]["image"]
        yield (comma + "\n" + json.dumps({"id": number, **image})).encode()
        comma = ","
    yield b'\n], "annotations": ['
    comma, total = "", 0
    for number, line in enumerate(lines(), 1):
        texts = []
        for one in _annotations(line):
            total += 1
            texts.append(json.dumps({"image": one["image"], **one, "id": total, "image_id": number}))
        yield (comma + "\n" + ", ".join(texts)).encode()
        comma = ","
    yield b"\n]}\n"


def _annotations(line: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads("[" + line.decode("ascii").strip().rstrip(",") + "]")
    return found


def _annotation(area: Area, size: Sequence[int]) -> dict[str, Any]:
    height, width = area.pixels.shape
    segmentation: Any
    if area.ring is None:
        mask = np.zeros(size, bool)
        mask[area.top : area.top + height, area.left : area.left + width] = area.pixels
        segmentation = {"size": [int(side) for side in size], "counts": rle.to_text(rle.encode(mask))}
    else:
        segmentation = [area.ring.ravel().tolist()]
    return {
        "id": 0,
        "image_id": 0,
        "category_id": area.k + 1,
        "segmentation": segmentation,
        "area": int(area.pixels.sum()),
        "bbox": [area.left, area.top, width, height],
        "iscrowd": 0,
    }
