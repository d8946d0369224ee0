"""Names and colours of a dataset's classes, read from a CSV file or generated."""

import csv
import io
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..runtime.resources import find

ADE20K = "data/ade20k_classes.csv"
_COLUMNS = ("index", "name", "red", "green", "blue")
_SHOWN = 3  # problems spelled out in a message; the rest are counted


@dataclass(frozen=True)
class ClassTable:
    """Names and colours of the classes. Class k of the network is label value k+1 in a file."""

    names: tuple[str, ...]
    colors: np.ndarray  # (num_class, 3) uint8 RGB


def load_classes(path: str | PathLike[str], num_class: int) -> ClassTable:
    """The names and colours of ``num_class`` classes.

    Args:
        path: a CSV file with a header and a row for each class, separated by commas, semicolons or tabs.
            Columns, in any order and case: ``index`` (or Idx; 1 to num_class in the order of the classes, or
            from 0), ``name`` (the first of several names separated by ``;`` is used), and ``red``, ``green``,
            ``blue`` (0 to 255; generated if all three columns are missing).
            "" gives ADE20K's classes if num_class is 150, otherwise "class 1", "class 2", ...

    Raises: UserError for a file that cannot be used, or that does not have exactly ``num_class`` classes.
    """
    if not str(path):
        if num_class != 150:
            return numbered_classes(num_class)
        path = ADE20K
    try:
        with find(Path(path)).open(encoding="utf-8-sig", newline="") as file:
            rows = _rows(file.read())
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {error}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None

    columns = _columns(rows[0] if rows else [], path)
    found: dict[int, tuple[str, list[int]]] = {}
    problems: list[str] = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            index, name, color = _parse(row, columns)
            if index in found:
                raise ValueError(f"repeats index {index}")
        except ValueError as problem:
            problems.append(f"row {number} {problem}")
            continue
        found[index] = name, color
    if problems:
        more = f"; ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UserError(f"{path}: {'; '.join(problems[:_SHOWN])}{more}.")
    first = 0 if 0 in found else 1
    indices = range(first, first + num_class)
    if sorted(found) != list(indices):
        missing = [index for index in indices if index not in found]
        gap = f" Index {missing[0]} is missing." if missing else ""
        raise UserError(
            f"{path} names {len(found)} classes, but DATASET.num_class is {num_class}.{gap} "
            f"It needs a row for each index from {first} to {indices[-1]}."
        )
    colors = palette(num_class)
    for k, index in enumerate(indices):
        colors[k] = found[index][1] or colors[k]
    return ClassTable(tuple(found[index][0] for index in indices), colors)


def numbered_classes(num_class: int) -> ClassTable:
    """The classes as "class 1", "class 2", ... in distinct colours."""
    return ClassTable(tuple(f"class {k}" for k in range(1, num_class + 1)), palette(num_class))


def classes_csv(table: ClassTable) -> bytes:
    """A table as the content of a CSV file that `load_classes` reads."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for index, (name, color) in enumerate(zip(table.names, table.colors.tolist(), strict=True), start=1):
        writer.writerow((index, name, *color))
    return text.getvalue().encode()


def write_classes(path: str | PathLike[str], table: ClassTable) -> None:
    """Write a table as a CSV file that `load_classes` reads."""
    Path(path).write_bytes(classes_csv(table))


def palette(num_class: int) -> np.ndarray:
    """Distinct colours, (num_class, 3) uint8 RGB. None is black, which means unlabelled.

    The bits of the label value k+1 go to red, green and blue in turn. The lowest bits get the highest weight,
    so consecutive labels look different.

    >>> palette(3).tolist()
    [[128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    labels = np.arange(1, num_class + 1)
    colors = np.zeros((num_class, 3), np.uint8)
    for bit in range(24):
        colors[:, bit % 3] |= (((labels >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return colors


def _rows(text: str) -> list[list[str]]:
    """The cells of a table that is separated by commas or, if its header is so, by semicolons or tabs."""
    header = text.partition("\n")[0]
    separators = [mark for mark in ",;\t" if {"index", "idx"} & _positions(header.split(mark)).keys()]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separators[0] if separators else ","))


def _positions(header: list[str]) -> dict[str, int]:
    return {name.strip().strip('"').lower(): position for position, name in enumerate(header)}


def _columns(header: list[str], path: str | PathLike[str]) -> list[int]:
    """The positions of the columns: index, name and, if there are colours, red, green and blue."""
    found = _positions(header)
    found.setdefault("index", found.get("idx", -1))
    colored = any(name in found for name in _COLUMNS[2:])
    wanted = _COLUMNS if colored else _COLUMNS[:2]
    missing = [name for name in wanted if found.get(name, -1) < 0]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}; its header should be {','.join(_COLUMNS)}."
        )
    return [found[name] for name in wanted]


def _parse(row: list[str], columns: list[int]) -> tuple[int, str, list[int]]:
    """Index, name and colour ([] without colours). Raises: ValueError with the end of a sentence."""
    if len(row) <= max(columns):
        raise ValueError(f"has {len(row)} cells")
    index, names, *color = (row[column].strip() for column in columns)
    name = names.split(";")[0].strip()
    if not index.isdecimal():
        raise ValueError(f'has index "{index}", which is not a whole number of 0 or more')
    if not name:
        raise ValueError("has no name")
    for value in color:
        if not value.isdecimal() or int(value) > 255:
            raise ValueError(f'has the colour value "{value}", which is not from 0 to 255')
    return int(index), name, [int(value) for value in color]
