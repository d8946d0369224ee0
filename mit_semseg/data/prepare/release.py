"""What a format makes of a source: which image belongs to which label, and what the values stand for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ...errors import UserError
from ..classes import ClassTable

TRAINING = "training"
VALIDATION = "validation"

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Example:
    """An image and its label, both members of the source."""

    name: str
    """Path of what is written, without split and extension: ``aachen/aachen_000000_000019``."""
    label: str
    image: str = ""
    """"" if the label's file holds the image."""
    split: str = ""
    """`TRAINING`, `VALIDATION`, or "" to be drawn."""


class Reader(Protocol):
    """Reads one label file. Sent to processes, so it is small and can be pickled."""

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        """Whole numbers from 0 to 65535, (H, W). Raises: UserError with the file's name."""
        ...

    def embedded(self, label: Path) -> bytes:
        """The image file in a label file, for examples without an image of their own."""
        ...


@dataclass
class Release:
    """All that a format knows of a source."""

    examples: list[Example]
    reader: Reader
    coding: dict[int, int] | None = None
    """File value -> class, 0 for unlabelled. None: `Options.label_offset` says it."""
    others: int = -1
    """What values outside of ``coding`` become; -1: they are refused."""
    classes: ClassTable | None = None
    """Of ``coding``; None: numbered up to the largest that occurs."""
    values: dict[int, tuple[str, Color]] = field(default_factory=dict)
    """What the file's values are called and drawn as, for classes that the user's map makes."""
    notes: list[str] = field(default_factory=list)
    """What was left out on purpose, and why; sentences."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with files; sentences."""


class NothingFoundError(UserError):
    """The source is not laid out as the format is."""


def nothing_found(source: Path, wanted: str, members: Sequence[str]) -> NothingFoundError:
    """An error that says what was looked for, and what is there instead."""
    tops = list(dict.fromkeys(name.split("/")[0] + ("/" if "/" in name else "") for name in members))
    there = ", ".join(tops[:6]) + (f", ... ({len(tops)} in all)" if len(tops) > 6 else "")
    return NothingFoundError(f"{source} holds no {wanted}. It holds: {there or 'nothing'}.")


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    more = f", ... and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
