"""Reading the names of classes from a file, with their label values if the file gives them."""

import csv
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ...data.classes import ClassTable, palette
from ...errors import UserError
from ...runtime.resources import find

BACKGROUND = ("background", "_background_", "bg")
"""Names of the background, which may be a class or unlabelled."""
NO_CLASS = ("unlabelled", "unlabeled", "void", "ignore", "ignored", "__ignore__")
"""Names of pixels that belong to no class."""

_NAME = ("name", "classname", "class", "label", "labelname", "category", "categoryname")
_VALUE = (
    *("index", "idx", "id", "value", "pixelvalue", "pixel", "number", "classid", "classindex", "classvalue"),
    *("labelid", "labelvalue", "categoryid", "class", "label", "category", "code", "gray", "grayvalue"),
)
_LARGEST_COLOR = 255
_COLOR = (("red", "r"), ("green", "g"), ("blue", "b"))
_NUMBER = r"\s*[\"'\[(]?(\d+)[\"'\])]?\s*"
_MARK = r"(?:[:=;,\t]\s*|[.)]\s+|-\s+)"
_NUMBERED = re.compile(rf"{_NUMBER}(?:{_MARK}|\s+)[\"']?(.*?)[\"']?\s*,?\s*")
_MARKED = re.compile(rf"{_NUMBER}{_MARK}|\s*\[\d+\]")
_COLORED = re.compile(r"(.+?)\s*[:;,\s]\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)[\s:]*")
_NO_NAME = re.compile(r".*[{}\[\]|<>=].*|.*:\s*")  # a line of another syntax
_LISTS = ("names", "classes", "categories", "labels")  # keys of the classes in a file of settings
_REVERSED = re.compile(r"\s*[\"']?(.+?)[\"']?\s*[:=;,\t]\s*(\d+)\s*,?\s*")
_LABELMAP = re.compile(r"\s*([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*")  # name:r,g,b:parts:actions, by CVAT


@dataclass(frozen=True)
class Names:
    """The classes that a file names."""

    path: str
    table: ClassTable
    """The classes, ordered by their values, or by their lines if the file gives no values."""
    values: tuple[int, ...] = ()
    """The label value of each class; empty if the file gives no values, so that the order of lines counts."""
    unlabelled: dict[int, str] = field(default_factory=dict)
    """Values whose names say that they are not classes."""
    first: str = ""
    """The first name, even if it is not a class; "" if the file gives values."""


def read_names(path: str, *, offset: int | None = None) -> Names:
    """The names in a file: a table with a header, lines such as ``0: background``, or one name per line.

    JSON and YAML are read, too: values and names, names in order, or objects with both, at the top or under
    ``names``, ``classes``, ``categories`` or ``labels``.
    In a table, columns are found by their headers (``index,name``, ``Pixel Value, Class``), in any order and
    case, and separated by commas, semicolons or tabs; the columns ``red``, ``green`` and ``blue`` give
    colours. Values may have gaps. Of several names separated by ``;``, the first is used. Among plain lines,
    empty ones are skipped, and so are names such as
    ``__ignore__`` and ``_background_``, LabelMe's names for pixels without a class. With ``offset`` 0, value
    0 is a class, and ``_background_`` may be its name.

    Raises: UserError if the file cannot be used.
    """
    try:
        text = find(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    lines = table_lines(text)
    rows = _from_object(text, path) or _from_table(lines, path) or _from_numbered_lines(lines)
    rows = rows or _from_plain_lines(lines, path)
    if rows and rows[0].value is not None:
        return _by_value(rows, path)
    return _in_order(rows, path, offset)


@dataclass(frozen=True)
class _Row:
    name: str
    value: int | None = None
    color: tuple[int, ...] = ()


def _by_value(rows: Sequence[_Row], path: str) -> Names:
    named: dict[int, _Row] = {}
    for row in sorted(rows, key=lambda row: row.value or 0):
        other = named.setdefault(row.value or 0, row)
        if other is not row:
            raise UserError(f"{path} gives the value {row.value} to {other.name} and to {row.name}.")
    classes = {value: row for value, row in named.items() if row.name.casefold() not in NO_CLASS}
    unlabelled = {value: row.name for value, row in named.items() if value not in classes}
    return Names(path, _table(list(classes.values()), path), tuple(classes), unlabelled)


def _in_order(rows: Sequence[_Row], path: str, offset: int | None) -> Names:
    rows = [row for row in rows if row.name != "__ignore__"]
    kept = [row for k, row in enumerate(rows) if not row.name.startswith("_") or (offset == 0 and k == 0)]
    return Names(path, _table(kept, path), first=rows[0].name)


def _table(rows: Sequence[_Row], path: str) -> ClassTable:
    if not rows:
        raise UserError(f"{path} names no class. It needs one name per line, or the columns index,name.")
    colors = palette(len(rows))
    for k, row in enumerate(rows):
        if row.color:
            colors[k] = row.color
    return ClassTable(tuple(row.name for row in rows), colors)


def _from_object(text: str, path: str) -> list[_Row]:
    """The rows of JSON or YAML, such as ``{"0": "car"}`` or ``names: [car]``; [] for other text."""
    is_yaml = path.lower().endswith((".yaml", ".yml"))
    if not is_yaml and (text.lstrip()[:1] not in ("{", "[") or _MARKED.match(text)):
        return []
    try:
        content = yaml.safe_load(text) if is_yaml else json.loads(text)
        found = next((content[key] for key in _LISTS if key in content), content)
        return _rows_of(content if isinstance(found, str | int) else found)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        raise UserError(
            f'{path} is not a table of names. As JSON, it must look like {{"0": "background", "1": "car"}}.'
        ) from None


def _rows_of(content: Any) -> list[_Row]:
    """Raises: ValueError or TypeError for anything but values and names, in one of the usual forms."""
    if isinstance(content, list):
        if all(isinstance(entry, dict) for entry in content):
            return [_row_of({_key(key): value for key, value in entry.items()}) for entry in content]
        if not all(isinstance(name, str | int | float) for name in content):
            raise TypeError
        return [_Row(str(name)) for name in content]
    if any(isinstance(value, bool) for value in content.values()):  # YAML's yes and no
        raise TypeError
    values_first = all(isinstance(name, str) and str(value).isdecimal() for value, name in content.items())
    pairs = content.items() if values_first else [(value, name) for name, value in content.items()]
    return [_Row(str(name), int(value)) for value, name in pairs]


def _row_of(entry: dict[str, Any]) -> _Row:
    """The class that an object names. Raises: ValueError or TypeError if it has no name."""
    name = next((entry[key] for key in _NAME if isinstance(entry.get(key), str)), None)
    if name is None:
        raise TypeError
    value = next((entry[key] for key in _VALUE if isinstance(entry.get(key), int | float)), None)
    return _Row(name, None if value is None else int(value))


def _from_numbered_lines(lines: Sequence[str]) -> list[_Row]:
    """The rows of lines such as ``0: background``, ``background,0`` or ``background:0,0,0::``; [] for names.

    A number and a space may belong to a name, such as ``2 cents``, unless the numbers count the lines.
    """
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    rows = [_Row(match[2], int(match[1])) for match in matches if match and match[2]]
    if len(rows) == len(lines):
        values = [row.value for row in rows]
        counted = values in (list(range(len(rows))), list(range(1, len(rows) + 1)))
        return list(map(_colored, rows)) if counted or all(map(_MARKED.match, lines)) else []
    matches = [_LABELMAP.fullmatch(line) for line in lines]
    if all(matches):
        return [_Row(m[1].strip(), color=tuple(map(int, m.groups()[1:]))) for m in matches if m]
    matches = [_REVERSED.fullmatch(line) for line in lines]
    return [_Row(m[1], int(m[2])) for m in matches if m] if all(matches) else []


def _colored(row: _Row) -> _Row:
    """A row whose name ends with a colour, ``background:0,0,0``, without it."""
    match = _COLORED.fullmatch(row.name)
    color = tuple(map(int, match.groups()[1:])) if match else ()
    return _Row(match[1], row.value, color) if match and max(color) <= _LARGEST_COLOR else row


def _from_plain_lines(lines: Sequence[str], path: str) -> list[_Row]:
    """A name per line, perhaps quoted or after a dash, or one line of names with commas.

    Raises: UserError for a line of another syntax, which would become the name of a class.
    """
    names = [line.strip() for line in lines]
    if len(names) == 1 and "," in names[0]:
        names = [name.strip() for name in names[0].split(",")]
    if all(name.startswith("- ") for name in names):
        names = [name[2:].strip() for name in names]
    for name in names:
        if _NO_NAME.fullmatch(name):
            raise UserError(
                f"{path}: {name!r} is not the name of a class. The file needs one name per line, lines such "
                "as 0: background, or a table with the header index,name."
            )
    quoted = all(len(name) > 2 and name[0] == name[-1] and name[0] in "\"'" for name in names)
    return [_Row(name[1:-1] if quoted else name) for name in names if name]


def _from_table(lines: Sequence[str], path: str) -> list[_Row]:
    """The rows of a table with a header; [] for other text.

    Raises: UserError for a table without a column of values or of names, and for a cell that is neither.
    """
    delimiter = separator(lines[0], (*_NAME, *_VALUE)) if lines else ""
    if not delimiter:
        return []
    header, *cells = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    keys = list(map(_key, header))
    if not any(key in (*_NAME, *_VALUE) for key in keys):
        return []
    cells = [[cell.strip() for cell in row] for row in cells]
    ragged = next((k for k, row in enumerate(cells, 2) if len(row) != len(header)), 0)
    if ragged:
        raise UserError(
            f"{path}: line {ragged} has {len(cells[ragged - 2])} cells, but its header has {len(header)}."
        )
    numeric = [bool(cells) and all(row[k].isdecimal() for row in cells) for k in range(len(keys))]
    colors = [next((k for k, key in enumerate(keys) if key in names), -1) for names in _COLOR]
    name = next((keys.index(key) for key in _NAME if key in keys and not numeric[keys.index(key)]), -1)
    value = next((keys.index(key) for key in _VALUE if key in keys and keys.index(key) != name), -1)
    if name < 0 or not cells:
        raise UserError(f"{path} has no column of names; its header should be index,name,red,green,blue.")
    values: Sequence[int | None] = [None] * len(cells)  # without values, the order of the rows counts
    if value >= 0:
        values = _whole_numbers([row[value] for row in cells], header[value], path)
    return [
        _Row(row[name].split(";")[0].strip(), number, _color(row, colors, path, line))
        for line, (number, row) in enumerate(zip(values, cells, strict=True), 2)
    ]


def table_lines(text: str) -> list[str]:
    """The lines of a table that are not empty, a comment (#), or ``sep=;``, which spreadsheets put first."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return lines[1:] if lines and re.fullmatch(r"\s*\"?sep=.?\"?\s*", lines[0]) else lines


def separator(header: str, known: Collection[str]) -> str:
    """The tab, semicolon or comma that cuts a header into the most known columns; "" if it has none of them.

    Args:
        known: names of columns in lower case, without spaces and the like.
    """
    marks = [mark for mark in "\t;," if mark in header]
    columns = {mark: next(csv.reader([header], delimiter=mark)) for mark in marks}
    return max(marks, key=lambda mark: sum(_key(cell) in known for cell in columns[mark]), default="")


def _key(cell: str) -> str:
    return re.sub(r"[^a-z]", "", cell.casefold())


def _whole_numbers(cells: Sequence[str], column: str, path: str) -> list[int]:
    for line, cell in enumerate(cells, 2):
        if not cell.isdecimal() or int(cell) >= 2**16:
            raise UserError(
                f'{path}: line {line} has "{cell}" for {column}, which is not a label value from 0 to 65535.'
            )
    return [int(cell) for cell in cells]


def _color(row: Sequence[str], columns: Sequence[int], path: str, line: int) -> tuple[int, ...]:
    if min(columns) < 0:
        return ()
    cells = [row[column] for column in columns]
    if not all(cell.isdecimal() and int(cell) <= _LARGEST_COLOR for cell in cells):
        raise UserError(f"{path}: line {line} has the colour {','.join(cells)}; colours go from 0 to 255.")
    return tuple(map(int, cells))
