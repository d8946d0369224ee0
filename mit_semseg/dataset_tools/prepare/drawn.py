"""What a labelling tool says about an image, and what the readers of all tools share.

A tool's module yields a `Drawn` for each image. `shape_release` makes a `Release` of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import UserError
from .release import Color, PrepareOptions
from .shapes import Shape, Size
from .source import SourceFolder, some
from .texts import PlaceError


@dataclass
class Drawn:
    """What a tool says about one image."""

    file: str
    """The annotation file, a member of the source; "" if the problems name it."""
    image: Sequence[str]
    """The image's path in the source or relative to the annotation file, or only the end of it; several if
    the tool may have renamed it, none if the problems belong to no image."""
    size: Size | None = None
    """(width, height) of the view on which the shapes were drawn. None: the image's upright view."""
    shapes: list[Shape] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What cannot be used, each with its place in the file: "annotation 7 has 2 points"."""
    omitted: Counter[str] = field(default_factory=Counter)
    """What marks no area, by kind: "point"."""
    split: str = ""


def unusable(where: str, error: PlaceError | UserError) -> Drawn:
    """A file that cannot be used, so that the others are still read and reported."""
    return Drawn("", (), problems=[f"{where} {error}." if isinstance(error, PlaceError) else str(error)])


@dataclass
class Classes:
    """The classes of a tool, filled while its files are read."""

    colors: dict[str, Color | None] = field(default_factory=dict)
    """Name -> colour, or None, in the order of the classes."""
    notes: list[str] = field(default_factory=list)
    by_name: bool = False
    """Whether names that are not in ``colors`` are classes, too, because the tool has no list of them."""


def refuse_options_of_shapes(options: PrepareOptions, masks: str) -> None:
    """Raises: UserError for options that have no effect on label images, whose pixels all have a class."""
    for name in ("overlap", "background"):
        if getattr(options, name) is not None:
            raise UserError(
                f"--{name} is for exports of shapes, but this one holds label images ({masks}), in which "
                f"each pixel has its class, also the background."
            )


def is_name(name: str) -> bool:
    """Whether a name can stand in a table of classes: text that is not blank."""
    return bool(name.strip()) and name == name.encode(errors="replace").decode()


def hex_color(text: Any) -> Color | None:
    """The colour of ``#ff8000``; None for anything else."""
    match = re.fullmatch(r"#([0-9a-fA-F]{6})", text) if isinstance(text, str) else None
    return tuple(bytes.fromhex(match[1])) if match else None  # type: ignore[return-value]


def chosen(source: SourceFolder, options: PrepareOptions, is_one: Callable[[str], bool]) -> list[str]:
    """The members that are annotation files, or those of them that --annotations names.

    Raises: UserError if it names none of them.
    """
    members = [name for name in source.members if is_one(name)]
    if options.annotations is None:
        return members
    wanted = options.annotations.replace("\\", "/").strip("/")
    found = [name for name in members if f"/{name}".endswith(f"/{wanted}") or name.startswith(f"{wanted}/")]
    if not found:
        raise UserError(
            f"{source.path} holds no {options.annotations} that this format reads (--annotations). It reads "
            f"{some(members) or 'no file there'}."
        )
    return found
