"""The images of which a model is least sure, so that people correct them first.

The uncertainty of an image is the mean over its pixels of 1 - margin, see `inference.predict.margin`: from 0,
if the model is sure of every pixel, to 1, if two classes are equally likely at each.
"""

import csv
import io
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..report.predictions import doubt_of
from ..runtime.files import replacing
from .collected import PAGE, Parts
from .jobs import Jobs
from .recorder import printable

LIST = "uncertain.txt"
TABLE = "uncertainty.csv"


class Ranking(NamedTuple):
    """The numbers of jobs, the least sure first, and the uncertainty of each."""

    numbers: NDArray[np.int64]
    uncertainties: NDArray[np.float64]


def rank(folder: Path, jobs: Jobs, numbers: Iterable[int], *, earlier: bool) -> Ranking:
    """Jobs by the uncertainty on their cards.

    Args:
        folder: of the outputs.
        numbers: of the jobs. Those without a card are not ranked.
        earlier: see `write_whole`.
    """
    found, uncertainties = array("q"), array("d")
    with Parts(folder, PAGE, earlier=earlier) as cards:
        for k in numbers:
            card = cards.get(jobs.key(PAGE, k))
            if card is not None:
                found.append(k)
                uncertainties.append(doubt_of(card) or 0.0)
    values = np.array(uncertainties)
    order = np.argsort(-values, kind="stable")
    return Ranking(np.array(found, np.int64)[order], values[order])


def write_ranking(folder: Path, jobs: Jobs, ranking: Ranking, most: int) -> str:
    """Write the paths of the first images of a ranking, one per line, and a table of all. Returns a report.

    `--imgs -` reads such a list. If a path has a line break, they are separated by zero bytes.

    Raises: UserError if a file cannot be written.
    """

    def paths(count: int) -> Iterator[str]:
        for k in ranking.numbers[:count].tolist():
            yield os.path.abspath(jobs.inputs.paths[k])  # noqa: PTH100 - links stay as they are

    count = len(ranking.numbers)
    separator = "\0" if any("\n" in path for path in paths(most)) else "\n"
    with replacing(folder / LIST) as file:
        file.writelines(os.fsencode(path + separator) for path in paths(most))
    with replacing(folder / TABLE) as file:
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["uncertainty", "image"])
        for path, uncertainty in zip(paths(count), ranking.uncertainties.tolist(), strict=True):
            rows.writerow([f"{uncertainty:.6f}", path])
        text.detach()  # `replacing` flushes and closes the file itself
    lines = []
    if count:
        first = printable(jobs.inputs.paths[int(ranking.numbers[0])])
        lines = [f"Least sure: {first} ({ranking.uncertainties[0]:.4f})"]
    return "\n".join([*lines, f"{min(most, count)} of {count} images to label: {folder / LIST}", ""])
