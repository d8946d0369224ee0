"""The labels of images whose shapes are kept in a temporary file, one image at a time."""

import pickle
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...data.files import naming, regular
from ...data.orientation import orientation_of, upright_size
from ...errors import UserError
from .drawn import Drawn
from .labels import LabelImages
from .shapes import Size, paint


class Spool:
    """Objects in a temporary file, which is deleted with this object. A copy in another process reads it."""

    def __init__(self) -> None:
        self._keep(tempfile.NamedTemporaryFile(prefix="semseg_"))  # noqa: SIM115 - closed with this object

    def __getstate__(self) -> str:
        self._file.flush()
        return self._file.name

    def __setstate__(self, path: str) -> None:
        self._keep(Path(path).open("rb"))  # noqa: SIM115 - as above

    def _keep(self, file: Any) -> None:
        self._file = file
        weakref.finalize(self, file.close)

    def add(self, content: Any) -> tuple[int, int]:
        """The place of an object: offset and length."""
        data = pickle.dumps(content)
        place = self._file.seek(0, 2), len(data)
        self._file.write(data)
        return place

    def get(self, place: tuple[int, int]) -> Any:
        """The object at a place."""
        self._file.seek(place[0])
        return pickle.loads(self._file.read(place[1]))


@dataclass(frozen=True)
class ShapeLabels(LabelImages):
    """Paints the shapes of an image. The size shows which view of a turned photo they fit."""

    folder: Path
    spool: Spool
    places: dict[str, tuple[int, int]]
    """Image member -> its `Drawn` in the spool."""
    numbers: Mapping[str, int]
    overlap: str
    background: int

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        assert isinstance(image, Path)
        drawn: Drawn = self.spool.get(self.places[image.relative_to(self.folder).as_posix()])
        sizes = views(image)
        size = drawn.size or sizes[1]
        if size not in sizes:
            raise UserError(
                f"{label}: {image} has {sizes[0][0]} x {sizes[0][1]} pixels, but its shapes were drawn on "
                f"{size[0]} x {size[1]}. They belong to another image, or the image was scaled later."
            )
        return paint(
            drawn.shapes,
            self.numbers,
            size,
            overlap=self.overlap,
            background=self.background,
            folder=self.folder,
        )


def views(image: Path) -> tuple[Size, Size]:
    """(width, height) of an image as stored, and upright. Raises: UserError."""
    with naming(image), Image.open(regular(image)) as opened:
        return opened.size, upright_size(opened.size, orientation_of(opened))
