"""What is recorded and printed when an input is done."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.classes import ClassTable
from ..inference.fingerprint import Fingerprint
from ..inference.pictures import by_share
from ..runtime.progress import say
from .collected import COLLECTED, PAGE, PartFile
from .jobs import Job
from .manifest import Manifest
from .page import card_of
from .predictor import Prediction
from .tools import coco, cvat
from .tools.areas import Shapes


class Recorder:
    """Records finished jobs in the manifest and in the files of all images, and prints them.

    Args:
        folder: of the outputs.
        fingerprint: of the prediction.
        rank: of this process.
        outputs: names of outputs.
        shapes: of labelling tools.
    """

    def __init__(
        self, folder: Path, fingerprint: Fingerprint, rank: int, outputs: Sequence[str], shapes: Shapes
    ) -> None:
        self._folder = folder
        self._manifest = Manifest(folder)
        self._fingerprint = fingerprint
        self._parts = {name: PartFile(folder, name, rank) for name in outputs if name in COLLECTED}
        self.shapes = shapes

    @property
    def has_page(self) -> bool:
        """Whether there will be a page."""
        return PAGE in self._parts

    def add(
        self,
        job: Job,
        name: str,
        prediction: Prediction,
        shares: NDArray[np.float64],
        *,
        pages: int = 1,
        problem: str = "",
    ) -> None:
        """Record that a job is done.

        Args:
            name: of the input, to print.
            prediction: for the image, or the first frame of a video.
            shares: of each class in the pixels of the image or of all frames.
            pages: of the image file, whose first one was segmented.
            problem: what is wrong with the input, which a resumed run reports again.

        Raises: UserError if a file cannot be written.
        """
        files = list(job.targets.values())
        for output, parts in self._parts.items():
            parts.add(self._part(output, job, prediction, shares, files))
        if job.input.kind != "camera":  # a camera has something new each time
            keys = {output: job.key(output) for output in self._parts}
            self._manifest.add(
                job.input, job.state, self._fingerprint, job.targets, cards=keys, problem=problem
            )
        say(describe(name, shares, prediction.table, files, pages))

    def _part(
        self,
        output: str,
        job: Job,
        prediction: Prediction,
        shares: NDArray[np.float64],
        files: Sequence[Path],
    ) -> bytes:
        if output == PAGE:
            return card_of(job.input.path, prediction, shares, files, self._folder)
        tool = coco if output == "coco" else cvat
        areas = self.shapes.of(output, prediction.labels)
        return tool.part(job.name, areas, prediction.labels.shape, prediction.table)


def describe(
    name: str, shares: NDArray[np.float64], table: ClassTable, files: Sequence[Path], pages: int = 1
) -> str:
    """The classes of an image and their shares of its pixels, the largest first; then its outputs."""
    lines = [f"Predictions in [{printable(name)}]:"]
    lines += [f"  (page 1 of {pages})"] if pages > 1 else []
    lines += [f"  {table.names[k]}: {100 * shares[k]:.2f}%" for k in by_share(shares)]
    lines += [f"  -> {printable(str(file))}" for file in files]
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    r"""A text on one line.

    >>> printable("a\nb.jpg")
    'a\\nb.jpg'
    """
    return text.replace("\r", "\\r").replace("\n", "\\n")
