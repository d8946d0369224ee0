"""The XML of "CVAT for images 1.1", one file for all images: run lengths without loss, or polygons.

Each image is one line, so a resumed run finds it without reading the others. The run lengths of a mask go
along the rows of its box. Source: "XML annotation format" in the documentation of docs.cvat.ai.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import unescape
from xml.sax.saxutils import escape

from ...data import rle
from ...data.classes import ClassTable
from .areas import Area

NAME = "predictions_cvat.xml"
_IMAGE = re.compile(rb'<image id="\d+" name="([^"]*)".*</image>\n')
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def part(name: str, areas: Iterable[Area], size: Sequence[int], table: ClassTable) -> bytes:
    """The element of an image, as one line. It gets its number in `whole`. Arguments as in `coco.part`."""
    words = [f'<image id="0" name={_quoted(name)} width="{size[1]}" height="{size[0]}">']
    for area in areas:
        start = f'label={_quoted(table.names[area.k])} source="auto" occluded="0"'
        height, width = area.pixels.shape
        if area.ring is None:
            runs = ", ".join(map(str, rle.runs_of(area.pixels.ravel()).tolist()))
            box = f'left="{area.left}" top="{area.top}" width="{width}" height="{height}"'
            words.append(f'<mask {start} rle="{runs}" {box} z_order="0"></mask>')
        else:
            points = ";".join(f"{x:g},{y:g}" for x, y in area.ring.tolist())
            words.append(f'<polygon {start} points="{points}" z_order="0"></polygon>')
    return "".join([*words, "</image>\n"]).encode()


def key_of(line: bytes) -> str | None:
    """The name of the image of a line; None for another line."""
    match = _IMAGE.fullmatch(line)
    return unescape(match[1].decode("utf-8", "replace")) if match else None


def whole(lines: Callable[[], Iterable[bytes]], table: ClassTable) -> Iterator[bytes]:
    """The file in pieces, from the lines of `part`."""
    labels = "".join(
        f"<label><name>{escape(text(name))}</name><color>#{bytes(color).hex()}</color>"
        f"<type>any</type><attributes></attributes></label>\n"
        for name, color in zip(table.names, table.colors.tolist(), strict=True)
    )
    yield (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        "<meta><task><labels>\n"
        f"{labels}</labels></task></meta>\n"
    ).encode()
    for number, line in enumerate(lines()):
        yield re.sub(rb'id="\d+"', b'id="%d"' % number, line, count=1)
    yield b"</annotations>\n"


def _quoted(value: str) -> str:
    entities = {'"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
    return f'"{escape(text(value), entities)}"'


def text(value: str) -> str:
    """A text without characters that XML cannot hold."""
    return _NOT_IN_XML.sub("?", value)
