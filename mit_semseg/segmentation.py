"""What comes out for one image: labels, probabilities, class shares, pictures, files."""

import difflib
import io
from collections.abc import Callable, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from .atomic import replacing
from .data.classes import ClassTable
from .data.resample import pick_nearest
from .errors import UserError
from .legend import add_legend, by_share, class_shares
from .visualize import Image, colorEncode, overlay, save_picture, side_by_side

KINDS = {"side_by_side": ".png", "overlay": ".png", "labels": ".png", "scores": ".npz"}
"""What `Segmentation.save` writes, and how the file's name ends."""

_SHOWN = 3  # classes that stand in the text form
_NOTEBOOK_EDGE = 1024  # pixels of the longer side in a notebook, which keeps its pictures in its own file


def save_labels(labels: NDArray[np.integer], num_class: int, path: Path) -> None:
    """Write a PNG of gray values, k+1 for class k, as ADE20K's server takes them; 16 bits beyond 255 classes.

    Gray, since a palette, which would be nicer to look at, gives colours in place of values to readers such
    as OpenCV.
    """
    values = labels.astype(np.uint16) + np.uint16(1)
    save_picture(values.astype(np.uint8) if num_class <= 255 else values, path)


def save_scores(probabilities: NDArray[np.floating], names: Sequence[str], path: Path) -> None:
    """Write an .npz file with ``probabilities`` (num_class, H, W) float16 and ``names`` (num_class,)."""
    with replacing(path) as file:
        np.savez(file, probabilities=probabilities.astype(np.float16, copy=False), names=np.array(names))


class Segmentation:
    """The classes of an image.

    It holds on to the model for the sake of `probabilities`. Pickles and copies come without the model, and
    with the probabilities if those have been asked for before.

    Attributes:
        image: what was segmented, (H, W, 3) uint8 RGB, upright.
        labels: (H, W) classes from 0 up, of the smallest integer type that holds all of them.
        names: of all classes.
        colors: of all classes, (num_class, 3) uint8 RGB.
        source: the image's file; "" if there was none.
    """

    def __init__(
        self,
        image: Image,
        labels: NDArray[np.integer],
        table: ClassTable,
        score: Callable[[Image], NDArray[np.float32]] | None = None,
        source: str = "",
    ) -> None:
        """
        Args:
            score: gives the probabilities of ``image``, when they are asked for.
        """
        self.image = image
        self.labels = labels
        self.names = table.names
        self.colors = table.colors
        self.source = source
        self._score = score

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """The probability of each class at each pixel, (num_class, H, W); they sum to 1 over the classes.

        The image is scored again at the first access, and the array is kept: it takes 4 bytes a class and
        pixel, 315 MB for 1024 x 512 pixels and 150 classes. ``del segmentation.probabilities`` frees them.
        """
        if self._score is None:
            raise RuntimeError(
                "This segmentation comes without its model, as pickles and copies do. Ask for its "
                "probabilities before, or segment the image again."
            )
        return self._score(self.image)

    @property
    def shares(self) -> dict[str, float]:
        """The share of each class that occurs in the pixels of the image, the largest first."""
        values = class_shares(self.labels, len(self.names))
        shares: dict[str, float] = {}
        for k in by_share(values, least=0):
            shares[self.names[k]] = shares.get(self.names[k], 0) + float(
                values[k]
            )  # a table may repeat a name
        return shares

    def mask(self, name: str | int) -> NDArray[np.bool_]:
        """Where a class is, (H, W).

        Args:
            name: of the class, or its number.

        Raises: ValueError if there is no such class.
        """
        if isinstance(name, str):
            classes = [k for k, other in enumerate(self.names) if other == name]
            if not classes:
                near = difflib.get_close_matches(name, self.names, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(self.names)}."
                raise ValueError(f"no class is called {name!r}. {hint}")
            return np.isin(self.labels, classes)
        if not 0 <= name < len(self.names):
            raise ValueError(f"class {name} does not exist: they go from 0 to {len(self.names) - 1}")
        return self.labels == name

    def overlay(self, alpha: float = 0.5, *, legend: bool = False) -> PIL.Image.Image:
        """The image with the colours of its classes laid over it.

        Args:
            alpha: weight of the colours, from 0 (the image alone) to 1.
            legend: names the classes in a strip below.
        """
        picture = overlay(self.image, self.labels, self.colors, alpha)
        return PIL.Image.fromarray(self._with_legend(picture) if legend else picture)

    def side_by_side(self, *, legend: bool = False) -> PIL.Image.Image:
        """The image, and at its right its classes in their colours."""
        picture = side_by_side([self.image, colorEncode(self.labels, self.colors)])
        return PIL.Image.fromarray(self._with_legend(picture) if legend else picture)

    def save(self, path: str | PathLike[str], kind: str = "side_by_side", *, legend: bool = False) -> None:
        """Write a file: whole, or not at all. Its folder is made.

        Args:
            path: ends with ``.png``, or ``.npz`` for "scores".
            kind: "side_by_side" or "overlay", pictures; "labels", a PNG with the gray value k+1 for class k,
                as ADE20K's labels have it (of 16 bits beyond 255 classes); "scores", "probabilities"
                (num_class, H, W) float16 and "names" for ``numpy.load``.
            legend: names the classes in a strip below a picture.

        Raises: ValueError for another kind or ending; UserError if the disk refuses, or if the path is that
            of the image.
        """
        path = Path(path)
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, but takes one of {', '.join(KINDS)}")
        if path.suffix.lower() != KINDS[kind]:
            raise ValueError(f"path is {str(path)!r}, but has to end with {KINDS[kind]} for kind {kind!r}")
        if self.source and path.exists() and path.samefile(self.source):
            raise UserError(f"{path} is the image itself, which is never overwritten. Choose another name.")
        if kind == "scores":
            save_scores(self.probabilities, self.names, path)
        elif kind == "labels":
            save_labels(self.labels, len(self.names), path)
        else:
            picture = self.overlay(legend=legend) if kind == "overlay" else self.side_by_side(legend=legend)
            save_picture(np.asarray(picture), path)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        shares = [f"{name} {100 * share:.1f} %" for name, share in self.shares.items()]
        more = f", and {len(shares) - _SHOWN} more" if len(shares) > _SHOWN else ""
        source = f"{self.source}: " if self.source else ""
        return f"<Segmentation {source}{width} x {height}, {', '.join(shares[:_SHOWN])}{more}>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay with its legend, of a size for the screen."""
        small = self
        height, width = self.labels.shape
        factor = _NOTEBOOK_EDGE / max(height, width)
        if factor < 1:
            size = max(1, round(width * factor)), max(1, round(height * factor))
            image = PIL.Image.fromarray(self.image).resize(size, reducing_gap=2)
            table = ClassTable(self.names, self.colors)
            small = Segmentation(np.asarray(image), pick_nearest(self.labels, *size), table)
        file = io.BytesIO()
        small.overlay(legend=True).save(file, format="PNG")
        return file.getvalue()

    def _with_legend(self, picture: Image) -> Image:
        return add_legend(
            picture, by_share(class_shares(self.labels, len(self.names))), self.names, self.colors
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_score": None}
