"""The images of which a model is least sure, so that people correct them first.

The uncertainty of an image is the mean over its pixels of 1 - margin, see `inference.predict.margin`: from 0,
if the model is sure of every pixel, to 1, if two classes are equally likely at each.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..report.predictions import doubt_of
from ..runtime.files import replacing
from .collected import PAGE, read_parts
from .jobs import Job
from .recorder import printable

LIST = "uncertain.txt"
TABLE = "uncertainty.csv"


class Ranked(NamedTuple):
    """An image and its uncertainty."""

    job: Job
    uncertainty: float


def rank(folder: Path, jobs: Sequence[Job], *, earlier: bool) -> list[Ranked]:
    """Jobs by the uncertainty on their cards, the least sure first.

    Args:
        folder: of the outputs.
        earlier: see `write_whole`.
    """
    by_key = {job.key(PAGE): job for job in jobs}
    found = [
        Ranked(by_key[key], doubt_of(card) or 0.0)
        for key, card in read_parts(folder, PAGE, list(by_key), earlier=earlier)
    ]
    return sorted(found, key=lambda one: -one.uncertainty)


def write_ranking(folder: Path, ranked: Sequence[Ranked], most: int) -> str:
    """Write the paths of the first images of a ranking, one per line, and a table of all. Returns a report.

    `--imgs -` reads such a list. If a path has a line break, they are separated by zero bytes.

    Raises: UserError if a file cannot be written.
    """
    paths = [os.path.abspath(one.job.input.path) for one in ranked]  # noqa: PTH100 - links stay as they are
    separator = "\0" if any("\n" in path for path in paths) else "\n"
    with replacing(folder / LIST) as file:
        file.write(b"".join(os.fsencode(path + separator) for path in paths[:most]))
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["uncertainty", "image"])
    rows.writerows([f"{one.uncertainty:.6f}", path] for one, path in zip(ranked, paths, strict=True))
    with replacing(folder / TABLE) as file:
        file.write(os.fsencode(table.getvalue()))
    lines = [f"Least sure: {printable(one.job.input.path)} ({one.uncertainty:.4f})" for one in ranked[:1]]
    shown = min(most, len(ranked))
    return "\n".join([*lines, f"{shown} of {len(ranked)} images to label: {folder / LIST}", ""])
