"""Images with colour-coded labels, and a table of the colours."""

import re

import numpy as np

from ....data.classes import ClassTable
from ....data.files import naming
from ....errors import UserError
from ....runtime.resources import find
from ..labels import ColorLabels, parse_colors
from ..names import NO_CLASS
from ..pairing import pair_by_name
from ..release import Color, PrepareOptions, Release
from ..source import SourceFolder, some

_TABLE = re.compile(r"(?:.*/)?(?:[^/]*\.csv|labelmap\.txt|[^/]*colou?r[^/]*\.txt)", re.IGNORECASE)
_WANTED = "name,red,green,blue"

_Table = list[tuple[str, Color]]


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """Row k of the table is class k. Rows called void, ignore or unlabelled, and black without a row, are 0.

    The table is --colors, or else the only one in the source.
    """
    names, colors, numbers = [], [], []
    unlabelled: dict[Color, str] = {}
    table, notes = _table(source, options)
    for name, color in table:
        if name.casefold() in NO_CLASS:
            unlabelled[color] = name
            continue
        names.append(name)
        colors.append(color)
        numbers.append(len(names))
    if len(names) > 65535:
        raise UserError(f"The table has {len(names)} colours, but at most 65535 are possible.")
    if unlabelled:
        rows = [f"{name} ({red},{green},{blue})" for (red, green, blue), name in unlabelled.items()]
        notes.append(f"Unlabelled, by the names of their rows: {', '.join(rows)}.")
    if (0, 0, 0) not in (*colors, *unlabelled):
        notes.append("Black (0,0,0) has no row, so it is unlabelled.")
    pairing = pair_by_name(source, options)
    reader = ColorLabels.of(
        [*colors, *unlabelled], [*numbers, *[0] * len(unlabelled)], unknown=options.unknown_colors
    )
    return Release(
        pairing.pairs,
        reader,
        coding={0: 0, **{number: number for number in numbers}},
        classes=ClassTable(tuple(names), np.array(colors, np.uint8).reshape(-1, 3)),
        values={n: (name, color) for n, name, color in zip(numbers, names, colors, strict=True)},
        notes=notes + pairing.notes,
        problems=pairing.problems,
    )


def _table(source: SourceFolder, options: PrepareOptions) -> tuple[_Table, list[str]]:
    """The names and colours, and a note if the table was found in the source."""
    if options.colors is not None:
        path = find(options.colors)
        with naming(path):
            return parse_colors(path.read_text(encoding="utf-8-sig"), options.colors), []
    tables: dict[str, _Table] = {}
    errors = {}
    for member in filter(_TABLE.fullmatch, source.members):
        try:
            with naming(source.where(member)):
                text = source.file(member).read_text(encoding="utf-8-sig")
            tables[member] = parse_colors(text, source.where(member))
        except UserError as error:
            errors[member] = error
    if not tables and len(errors) == 1:
        raise next(iter(errors.values()))
    if not tables:
        raise UserError(
            f"{source.path} holds no table of colours: a CSV file with the columns {_WANTED}, or "
            f"labelmap.txt. Name it with --colors."
        )
    first, *others = tables
    if any(tables[other] != tables[first] for other in others):
        raise UserError(
            f"{source.path} holds several tables of colours: {some(list(tables))}. Choose one with --colors, "
            f"such as --colors {source.where(first)}."
        )
    return tables[first], [f"The colours are those of {source.where(first)}."]
