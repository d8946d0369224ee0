"""Which files are scenes, by the header of a TIFF file. It needs no package, and reads no pixel."""

from os import PathLike
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from .files import extension

LARGE = 2**27
"""Pixels; a TIFF file with more is read by windows, even without coordinates."""

_EXTENSIONS = (".tif", ".tiff")
_WORLD_FILES = (".tfw", ".tifw", ".tiffw", ".wld")
_WIDTH, _HEIGHT = 256, 257  # tags
_GEOREFERENCE = (33550, 33922, 34264, 34735)  # tags: pixel scale, tie points, transformation, GeoKeys
_CLASSIC, _BIG = 42, 43  # versions; BigTIFF has 64-bit offsets
_INTEGERS = {3: "H", 4: "I", 16: "Q"}  # the types of tags that width and height may have


def is_scene(path: str | PathLike[str]) -> bool:
    """Whether a file is a TIFF with coordinates (maybe in a world file), or with more than `LARGE` pixels.

    False for a file that cannot be read.
    """
    if extension(path) not in _EXTENSIONS:
        return False
    file = Path(path)
    try:
        with file.open("rb") as opened:
            tags = _tags(opened)
    except (OSError, ValueError, OverflowError):
        return False
    pixels = tags.get(_WIDTH, 0) * tags.get(_HEIGHT, 0)
    georeferenced = any(tag in tags for tag in _GEOREFERENCE)
    return georeferenced or pixels > LARGE or any(file.with_suffix(end).exists() for end in _WORLD_FILES)


def _tags(file: BinaryIO) -> dict[int, int]:
    """The tags of the first image, with the values of those that hold one integer; 0 for the others.

    Raises: ValueError if the file is not a TIFF, or is cut off.
    """

    def read(form: str) -> tuple[int, ...]:
        struct = Struct(order + form)
        data = file.read(struct.size)
        if len(data) < struct.size:
            raise ValueError("the file ends in its tags")
        return struct.unpack(data)

    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "")
    if not order:
        raise ValueError("not a TIFF file")
    [version] = read("H")
    if version == _BIG:
        _, _, first = read("HHQ")
        number, entry, room = "Q", "HHQ", 8
    elif version == _CLASSIC:
        [first] = read("I")
        number, entry, room = "H", "HHI", 4
    else:
        raise ValueError("not a TIFF file")
    file.seek(first)
    tags = {}
    [count] = read(number)
    for _ in range(count):
        tag, kind, values = read(entry)
        content = file.read(room)
        struct = Struct(order + _INTEGERS.get(kind, ""))
        is_integer = struct.size and values == 1 and struct.size <= len(content)
        tags[tag] = struct.unpack(content[: struct.size])[0] if is_integer else 0
    return tags
