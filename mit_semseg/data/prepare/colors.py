"""Tables of colours: CSV with a header, or lines such as ``64 128 64<tab>Animal``."""

import csv
import re
from collections.abc import Sequence

from ...errors import UserError
from .release import Color

_COLUMNS = {"name": ("name", "class", "label"), **{c: (c, c[0]) for c in ("red", "green", "blue")}}


def parse_colors(text: str, where: str) -> list[tuple[str, Color]]:
    """Names and colours, in the order of the lines.

    CSV needs the columns name, red, green, blue (or name, r, g, b) in any order and case. If it has an index
    column too, the rows go by it. Plain lines begin with three numbers.

    Raises: UserError for a line that is neither, a colour that comes twice, or an empty table.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    header = [cell.strip().lower() for cell in next(csv.reader(lines[:1]), [])]
    place = {
        name: next((header.index(c) for c in cells if c in header), -1) for name, cells in _COLUMNS.items()
    }
    if min(place.values()) >= 0:
        rows = _rows(lines, header, place, where)
    elif lines and re.match(r"\s*\d", lines[0]):
        rows = [_plain(line, number, where) for number, line in enumerate(lines, 1)]
    else:
        missing = ", ".join(name for name, column in place.items() if column < 0)
        raise UserError(f"{where} has no column {missing}; its header should be name,red,green,blue.")
    seen: dict[Color, str] = {}
    for name, color in rows:
        other = seen.setdefault(color, name)
        if other != name:
            raise UserError(f"{where} gives {other} and {name} one colour, {','.join(map(str, color))}.")
    if not rows:
        raise UserError(f"{where} has no row below its header.")
    return rows


def _rows(
    lines: Sequence[str], header: list[str], place: dict[str, int], where: str
) -> list[tuple[str, Color]]:
    rows = []
    for number, cells in enumerate(csv.reader(lines[1:]), 2):
        try:
            name, *color = (cells[place[column]].strip() for column in _COLUMNS)
            order = int(cells[header.index("index")]) if "index" in header else number
            rows.append((order, name.split(";")[0].strip(), _color(color)))
        except (IndexError, ValueError):
            raise UserError(
                f"{where}: line {number} is {','.join(cells)!r}; it needs a name and a colour from 0 to 255."
            ) from None
    return [(name, color) for _, name, color in sorted(rows, key=lambda row: row[0])]


def _plain(line: str, number: int, where: str) -> tuple[str, Color]:
    match = re.fullmatch(r"\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*?)\s*", line)
    try:
        if match:
            return match[4], _color(match.groups()[:3])
    except ValueError:
        pass
    raise UserError(f"{where}: line {number} is {line.strip()!r}; it should be such as 64 128 64 Animal.")


def _color(cells: Sequence[str]) -> Color:
    red, green, blue = (int(cell) for cell in cells)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError
    return red, green, blue
