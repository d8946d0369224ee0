"""`Segmentation`: the classes of one image, and the pictures and files made of them."""

import io
import threading
from collections.abc import Callable
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ..data.classes import ClassTable
from ..data.resize import pick_nearest
from ..errors import UserError
from ..runtime.near_names import suggestion
from .pictures import (
    Image,
    add_legend,
    by_share,
    class_shares,
    colorEncode,
    overlay,
    save_labels,
    save_picture,
    save_scores,
    side_by_side,
)

KINDS = {"side_by_side": ".png", "overlay": ".png", "labels": ".png", "scores": ".npz"}
"""The kinds of file that `Segmentation.save` writes, and their extensions."""

_SHOWN = 3  # classes in the repr
_NOTEBOOK_EDGE = 1024  # pixels of the longer side in a notebook, whose file includes its pictures


class Segmentation:
    """The classes of an image.

    It keeps a reference to the model to compute `probabilities`. Pickles and copies have no model, but they
    include the probabilities if these have been computed.

    Attributes:
        image: the segmented image, (H, W, 3) uint8 RGB, upright; with bands, its display bands.
        labels: (H, W) classes from 0, in the smallest integer type that holds all of them. If the image has
            pixels without data, the type is signed and these are -1.
        names: names of all classes.
        colors: colours of all classes, (num_class, 3) uint8 RGB.
        source: the path of the image; "" if it does not come from a file.
    """

    def __init__(
        self,
        image: Image,
        labels: NDArray[np.integer],
        table: ClassTable,
        score: Callable[[Image], NDArray[np.float32]] | None = None,
        source: str = "",
        confidence: NDArray[np.float32] | None = None,
    ) -> None:
        """
        Args:
            score: computes the probabilities of ``image`` when they are needed.
            confidence: the probability of the label at each pixel, if it is known.
        """
        self.image = image
        self.labels = labels
        self.names = table.names
        self.colors = table.colors
        self.source = source
        self._score = score
        self._confidence = confidence

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """The probability of each class at each pixel, (num_class, H, W); they sum to 1 over the classes.

        The image is scored again at the first access, and the array is kept: it takes 4 bytes per class and
        pixel, 315 MB for 1024 x 512 pixels and 150 classes. ``del segmentation.probabilities`` frees it.
        """
        if self._score is None:
            raise RuntimeError(
                "This segmentation has no model, because it is a pickle or a copy. Read its probabilities "
                "before making the copy, or segment the image again."
            )
        return self._score(self.image)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of the label at each pixel, (H, W).

        It is known if the segmenter was called with ``confidence=True``. Otherwise it is read from
        `probabilities`, which scores the image again.
        """
        if self._confidence is None:
            chosen = np.maximum(self.labels, 0)[None].astype(np.intp)
            self._confidence = np.take_along_axis(self.probabilities, chosen, axis=0)[0]
        return self._confidence

    @property
    def shares(self) -> dict[str, float]:
        """The share of pixels of each class that occurs in the image, largest first."""
        values = class_shares(self.labels, len(self.names))
        shares: dict[str, float] = {}
        for k in by_share(values, least=0):
            name = self.names[k]  # a table may repeat a name
            shares[name] = shares.get(name, 0) + float(values[k])
        return shares

    def mask(self, name: str | int) -> NDArray[np.bool_]:
        """The pixels of a class, (H, W) bool.

        Args:
            name: name or number of the class.

        Raises: ValueError if no class has this name or number.
        """
        if isinstance(name, str):
            classes = [k for k, other in enumerate(self.names) if other == name]
            if not classes:
                known = f"The classes are {', '.join(self.names)}."
                raise ValueError(f"no class is called {name!r}. {suggestion(name, self.names)}{known}")
            return np.isin(self.labels, classes)
        if not 0 <= name < len(self.names):
            raise ValueError(f"class {name} does not exist: the classes are 0 to {len(self.names) - 1}")
        return self.labels == name

    def overlay(self, alpha: float = 0.5, *, legend: bool = False) -> PIL.Image.Image:
        """The image blended with the colours of its classes.

        Args:
            alpha: weight of the colours, from 0 (the image alone) to 1.
            legend: add a strip below with the names of the classes.
        """
        picture = overlay(self.image, self.labels, self.colors, alpha)
        return PIL.Image.fromarray(self._with_legend(picture) if legend else picture)

    def side_by_side(self, *, legend: bool = False) -> PIL.Image.Image:
        """The image, with its classes in their colours to its right."""
        picture = side_by_side([self.image, colorEncode(self.labels, self.colors)])
        return PIL.Image.fromarray(self._with_legend(picture) if legend else picture)

    def save(self, path: str | PathLike[str], kind: str = "side_by_side", *, legend: bool = False) -> None:
        """Write a file atomically. Its folder is created if it does not exist.

        Args:
            path: ends with ``.png``, or ``.npz`` for "scores".
            kind: "side_by_side" or "overlay" for a picture; "labels" for a PNG with the gray value k+1 for
                class k, as in ADE20K (16-bit above 255 classes); "scores" for a file with "probabilities"
                (num_class, H, W) float16 and "names", for ``numpy.load``.
            legend: add a strip with the names of the classes below a picture.

        Raises: ValueError for another kind or extension; UserError if the file cannot be written, or if the
            path is the image itself.
        """
        path = Path(path)
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, but takes one of {', '.join(KINDS)}")
        if path.suffix.lower() != KINDS[kind]:
            raise ValueError(f"path is {str(path)!r}, but must end with {KINDS[kind]} for kind {kind!r}")
        if self.source and _is_same_file(path, Path(self.source)):
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
        """The picture in a notebook: the overlay with its legend, scaled down to fit the screen."""
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


def _is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths lead to the same existing file."""
    try:
        return path.samefile(other)
    except OSError:  # one of them does not exist, or cannot be reached
        return False


def free_lock() -> None:
    """In a fork: free the lock of `Segmentation.probabilities`, whose holder is a thread that is not here."""
    held = Segmentation.__dict__["probabilities"]
    if hasattr(held, "lock"):  # before Python 3.12
        held.lock = threading.RLock()
