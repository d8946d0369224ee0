"""The interface of a format: ``read(source: SourceFolder, options: PrepareOptions) -> Release``."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ...data.classes import ClassTable

TRAINING = "training"
VALIDATION = "validation"

Color = tuple[int, int, int]


@dataclass(frozen=True)
class PrepareOptions:
    """The options of ``mit-semseg data prepare``; None if an option is not given."""

    format: str
    val_share: float = 0.2
    seed: int = 0
    map: dict[int | None, int] = field(default_factory=dict)
    """File value -> class; None stands for all values that are not named."""
    ignore: tuple[int, ...] = ()
    names: str | None = None
    images: str = "link"
    skip_bad: bool = False
    image_folder: str | None = None
    label_folder: str | None = None
    image_suffix: str | None = None
    label_suffix: str | None = None
    label_offset: int | None = None
    one_channel: bool = False
    upright: bool = False
    colors: str | None = None
    unknown_colors: str | None = None
    classes: str | None = None
    background: str | None = None
    overlap: str | None = None
    annotations: str | None = None


@dataclass(frozen=True, slots=True)
class SourcePair:
    """An image and its label, both members of the source."""

    name: str
    """Output path without split and extension: ``aachen/aachen_000000_000019``."""
    label: str
    image: str = ""
    """"" if the label's file holds the image."""
    split: str = ""
    """`TRAINING`, `VALIDATION`, or "" if it is to be drawn."""


@dataclass
class Assigned:
    """Pixels whose colour the table has not, and what they were taken for. Results of files can be added."""

    pixels: Counter[int] = field(default_factory=Counter)
    """By the value of the nearest row."""
    distances: dict[int, float] = field(default_factory=dict)
    """The largest distance to that row, in levels."""
    far: int = 0
    """Pixels that are too far from all rows, and so unlabelled."""

    def add(self, other: "Assigned") -> None:
        self.pixels += other.pixels
        for value, distance in other.distances.items():
            self.distances[value] = max(distance, self.distances.get(value, 0.0))
        self.far += other.far


class LabelReader(Protocol):
    """Reads one label file. It is sent to other processes, so it is small and can be pickled."""

    @property
    def follows_exif(self) -> bool:
        """Whether `values` are of the pixels as stored, whatever the image's EXIF orientation."""
        ...

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        """Whole numbers from 0 to 65535, (H, W). Raises: UserError that names the file."""
        ...

    def assigned(self, label: Path) -> Assigned:
        """The pixels of a file that `values` took for the row of a nearby colour."""
        ...

    def embedded(self, label: Path) -> bytes:
        """The image file that a label file holds, for pairs without an image file."""
        ...


@dataclass
class Release:
    """Everything that a format knows about a source."""

    pairs: list[SourcePair]
    reader: LabelReader
    coding: dict[int, int] | None = None
    """File value -> class, 0 for unlabelled; other values are refused. None: by `label_offset`."""
    classes: ClassTable | None = None
    """The classes of ``coding``; None: numbered up to the largest that occurs."""
    values: dict[int, tuple[str, Color]] = field(default_factory=dict)
    """Name and colour of each file value, for classes that the user's --map makes."""
    notes: list[str] = field(default_factory=list)
    """Files that were omitted on purpose, and why; sentences."""
    problems: list[str] = field(default_factory=list)
    """Files that cannot be used, and why; sentences."""
