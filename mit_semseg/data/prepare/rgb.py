"""Images with colour-coded labels, and a table of the colours."""

import numpy as np

from ...errors import UserError
from ...resources import find
from ..classes import ClassTable
from ..files import naming
from .colors import parse_colors
from .options import Options
from .pairing import pairs_by_name
from .release import Color, Release
from .source import Source
from .values import ColorLabels

_NO_CLASS = {"unlabelled", "unlabeled", "void", "ignore", "ignored", "__ignore__"}


def read(source: Source, options: Options) -> Release:
    """Row k of the table is class k; a row called void, ignore or unlabelled, and black without a row, are 0.

    The table is --colors, else the one CSV file in the source that is such a table.
    """
    names, colors, numbers = [], [], []
    unlabelled: list[Color] = []
    for name, color in _table(source, options):
        if name.casefold() in _NO_CLASS:
            unlabelled.append(color)
            continue
        names.append(name)
        colors.append(color)
        numbers.append(len(names))
    if len(names) > 65535:
        raise UserError(f"The table has {len(names)} colours; 65535 fit.")
    pairs = pairs_by_name(source, options)
    reader = ColorLabels.of(
        [*colors, *unlabelled],
        [*numbers, *[0] * len(unlabelled)],
        refuse_unknown=options.unknown_colors != "unlabelled",
    )
    return Release(
        pairs.examples,
        reader,
        coding={0: 0, **{number: number for number in numbers}},
        classes=ClassTable(tuple(names), np.array(colors, np.uint8).reshape(-1, 3)),
        values={n: (name, color) for n, name, color in zip(numbers, names, colors, strict=True)},
        notes=pairs.notes,
        problems=pairs.problems,
    )


def _table(source: Source, options: Options) -> list[tuple[str, Color]]:
    if options.colors is not None:
        path = find(options.colors)
        with naming(path):
            return parse_colors(path.read_text(encoding="utf-8-sig"), options.colors)
    tables = [name for name in source.members() if name.lower().endswith(".csv")]
    if len(tables) != 1:
        found = f"{len(tables)} CSV files" if tables else "no CSV file"
        raise UserError(
            f"{source.path} holds {found}. Name the table of colours with --colors; its columns are "
            f"name,red,green,blue."
        )
    with source.local(tables[0]) as path, naming(path):
        return parse_colors(path.read_text(encoding="utf-8-sig"), source.where(tables[0]))
