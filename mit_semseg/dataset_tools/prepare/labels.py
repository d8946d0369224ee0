"""From label files to values: images of numbers, and images of colours with a table of the colours."""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...data.files import naming
from ...data.label_diagnosis import count_classes
from ...data.label_files import LabelError, lossy_format
from ...data.labels import read_values
from ...errors import UserError
from .names import separator, table_lines
from .release import Assigned, Color

_COLUMNS = {
    "name": ("name", "class", "label", "class_name", "label_name"),
    **{c: (c, c[0]) for c in ("red", "green", "blue")},
}
_PLAIN = re.compile(r"\s*(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;]+(\S.*?)\s*")
_LABELMAP = re.compile(r"\s*([^:]+?)\s*:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::.*)?")
_SHOWN = 20  # unknown colours spelled out
_AT_ONCE = 4096  # unknown colours compared with the table at a time
_KEPT = 1000  # unknown colours of one file that are counted one by one


class FixableError(UserError):
    """A label that cannot be used as it is, with what to do about all labels of its kind.

    Args:
        sentence: names the file.
        fix: a sentence, in which SOURCE and OUT stand for those of the command.
    """

    def __init__(self, sentence: str, fix: str) -> None:
        super().__init__(sentence, fix)

    def __str__(self) -> str:
        return " ".join(self.args)


class LabelImages:
    """Label files that hold no image of the scene, and fit either view of it."""

    follows_exif = False

    def assigned(self, label: Path) -> Assigned:
        return Assigned()

    def embedded(self, label: Path) -> bytes:
        raise AssertionError(f"{label} holds no image")


@dataclass(frozen=True)
class IndexLabels(LabelImages):
    """Gray and palette images, read by their values."""

    one_channel: bool = False
    """Whether RGB with three equal channels is read, too."""
    judged: bool = False
    """Whether labels are refused whose values compression or interpolation has mixed."""

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        values = read_values(label, convert=True, one_channel=self.one_channel)
        if self.judged:
            count_classes(values, str(label))
        return values


class UnknownColorsError(UserError):
    """A label with colours that the table has not.

    Args:
        colors: distinct colours as numbers, the most frequent first, and the pixels of each; (K,) int64.
    """

    def __init__(self, message: str, colors: tuple[np.ndarray, np.ndarray]) -> None:
        super().__init__(message, colors)  # these are pickled
        self.message, self.colors = message, colors

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class ColorLabels(LabelImages):
    """Images in which a colour stands for a value. Black stands for 0 unless the table says otherwise."""

    codes: np.ndarray
    """The colours as `_code` gives them, sorted, (N,) int64."""
    numbers: np.ndarray
    """The value of each colour, (N,) uint8 or uint16."""
    unknown: str = "refuse"
    """What to do with a colour that is not in the table: "refuse"; "unlabelled", so that it becomes 0; or
    "nearest", so that it is taken for the row that is nearer than `reach`, or else becomes 0."""

    @staticmethod
    def of(colors: Sequence[Color], numbers: Sequence[int], *, unknown: str | None = None) -> "ColorLabels":
        """A reader for colours and the value of each."""
        table = {(0, 0, 0): 0, **dict(zip(colors, numbers, strict=True))}
        codes = _code(np.array(list(table)))
        order = np.argsort(codes)
        kind = np.uint8 if max(table.values()) < 256 else np.uint16
        return ColorLabels(codes[order], np.array(list(table.values()), kind)[order], unknown or "refuse")

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        with naming(label), Image.open(label) as opened:
            lossy = lossy_format(opened)
            if lossy and self.unknown == "refuse":
                raise LabelError(str(label), "colors_lossy", f"is {lossy} changes colours")
            if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
                raise UserError(
                    f"{label} has mode {opened.mode}; a colour-coded label is an RGB or a palette image."
                )
            codes = _code(_colors(opened))
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        unknown = self.codes[place] != codes
        values = self.numbers[place]
        if unknown.any():
            values[unknown] = self._of_unknown(label, codes[unknown])
        return values

    def assigned(self, label: Path) -> Assigned:
        """What "nearest" makes of a file that `values` has read."""
        if self.unknown != "nearest":
            return Assigned()
        with naming(label), Image.open(label) as opened:
            distinct, counts = np.unique(_code(_colors(opened)), return_counts=True)
        new = ~np.isin(distinct, self.codes)
        if not new.any():
            return Assigned()
        rows, distances = self.nearest(distinct[new])
        found, reach = Assigned(), self.reach
        for row, distance, pixels in zip(
            rows.tolist(), distances.tolist(), counts[new].tolist(), strict=True
        ):
            if distance < reach:
                value = int(self.numbers[row])
                found.add(Assigned(Counter({value: pixels}), {value: distance}))
            else:
                found.far += pixels
        return found

    def nearest(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row nearest to each colour, as a position in ``codes`` of the table, and its distance."""
        parts = [_distances(codes[k : k + _AT_ONCE], self.codes) for k in range(0, len(codes), _AT_ONCE)]
        rows = np.concatenate([part.argmin(1) for part in parts])
        return rows, np.concatenate([part.min(1) for part in parts])

    @property
    def reach(self) -> float:
        """Half the smallest distance between two rows: nearer than this, a colour belongs to one row only."""
        distances = _distances(self.codes, self.codes)
        return float(distances[~np.eye(len(self.codes), dtype=bool)].min(initial=np.inf)) / 2

    def _of_unknown(self, label: Path, codes: np.ndarray) -> np.ndarray:
        """The values of colours that are not in the table, (K,). Raises: UnknownColorsError."""
        if self.unknown == "unlabelled":
            return np.zeros(len(codes), self.numbers.dtype)
        distinct, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
        if self.unknown == "nearest":
            rows, distances = self.nearest(distinct)
            return np.where(distances < self.reach, self.numbers[rows], 0)[inverse].astype(self.numbers.dtype)
        order = np.argsort(-counts, kind="stable")[:_KEPT]
        raise UnknownColorsError(
            f"{label} has {len(distinct)} colour{'s' * (len(distinct) > 1)} that the table has not, "
            f"{len(codes)} pixels.",
            (distinct[order], counts[order]),
        )


def _colors(image: Image.Image) -> np.ndarray:
    """(H, W, 3 or 4) uint8. Palettes become RGBA, because Pillow warns if a transparent one becomes RGB."""
    return np.asarray(image.convert("RGBA" if image.mode == "P" else "RGB"))


def describe_assigned(found: Assigned, reader: ColorLabels, names: Mapping[int, str]) -> list[str]:
    """How many pixels "nearest" has assigned, to which rows, and how far they were, in sentences.

    Args:
        names: the name of each value of the table.
    """
    notes = []
    if found.pixels:
        rows = [
            f"{names.get(value, 'unlabelled')} {pixels:,} (distance up to {found.distances[value]:.1f})"
            for value, pixels in found.pixels.most_common(_SHOWN)
        ]
        more = len(found.pixels) - len(rows)
        rows += [f"{more} more rows"] * (more > 0)
        notes.append(
            f"Pixels whose colour the table has not, taken for the nearest row: {found.pixels.total():,}, "
            f"with a distance of up to {max(found.distances.values()):.1f}: {', '.join(rows)}."
        )
    if found.far:
        notes.append(
            f"Pixels whose colour is {reader.reach:.1f} or more from every row, so they are unlabelled: "
            f"{found.far:,}."
        )
    return notes


def describe_unknown(
    colors: Sequence[tuple[np.ndarray, np.ndarray]], reader: ColorLabels, names: Mapping[int, str]
) -> str:
    """All colours that labels have and the table has not, a line each, and what to do.

    Args:
        colors: of each file, the distinct ones as numbers and their pixels.
        names: the name of each value of the table.
    """
    codes = np.concatenate([distinct for distinct, _ in colors])
    distinct, inverse = np.unique(codes, return_inverse=True)
    pixels = np.bincount(inverse, np.concatenate([counts for _, counts in colors])).astype(int)
    files = np.bincount(inverse)
    order = np.argsort(-pixels, kind="stable")
    shown = order[:_SHOWN]
    lines = ["Colours that the table has not:"]
    for k, row, distance in zip(shown, *reader.nearest(distinct[shown]), strict=True):
        name = names.get(int(reader.numbers[row]), "unlabelled")
        near = f"{name}, {_spelled(_channels(reader.codes[row]))} (distance {distance:.1f})"
        lines.append(
            f"  {_spelled(_channels(distinct[k]))}: {pixels[k]} pixels in {files[k]} "
            f"file{'' if files[k] == 1 else 's'}; the nearest row is {near}"
        )
    if len(order) > _SHOWN:
        rest = order[_SHOWN:]
        lines.append(f"  and {len(rest)} more with {pixels[rest].sum()} pixels")
    lines.append(
        f"Correct the table. Or take a colour for its nearest row, if that is nearer than {reader.reach:.1f} "
        f"(half the smallest distance between two rows), and for unlabelled otherwise: --unknown-colors "
        f"nearest. Or make them all unlabelled: --unknown-colors unlabelled."
    )
    return "\n".join(lines)


def parse_colors(text: str, where: str) -> list[tuple[str, Color]]:
    """Names and colours of a table, in the order of its lines.

    A table is CSV with the columns name, red, green, blue (or name, r, g, b) in any order and case, separated
    by commas, semicolons or tabs. Or it has lines such as ``64 128 64<tab>Animal``, or
    ``animal:64,128,64::`` as CVAT writes them to ``labelmap.txt``.
    Rows of a CSV with a column ``index`` are sorted by it. Lines that begin with # are skipped.

    Raises: UserError for a line that is neither, a colour that occurs twice, or an empty table.
    """
    lines = table_lines(text)
    known = {name for names in _COLUMNS.values() for name in names}
    delimiter = (separator(lines[0], known) if lines else "") or ","
    header = [cell.strip().lower() for cell in next(csv.reader(lines[:1], delimiter=delimiter), [])]
    place = {
        name: next((header.index(c) for c in cells if c in header), -1) for name, cells in _COLUMNS.items()
    }
    if min(place.values()) >= 0:
        rows = _csv_rows(lines, delimiter, header, place, where)
    elif lines and _LABELMAP.fullmatch(lines[0]):
        rows = [_row(_LABELMAP, (1, 2, 3, 4), line, "animal:64,128,64::", where) for line in lines]
    elif lines and re.match(r"\s*\d", lines[0]):
        rows = [_row(_PLAIN, (4, 1, 2, 3), line, "64 128 64 Animal", where) for line in lines]
    else:
        missing = ", ".join(name for name, column in place.items() if column < 0)
        raise UserError(f"{where} has no column {missing}; its header must be name,red,green,blue.")
    seen: dict[Color, str] = {}
    for name, color in rows:
        other = seen.setdefault(color, name)
        if other != name:
            raise UserError(f"{where} gives {other} and {name} the same colour, {_spelled(color)}.")
    if not rows:
        raise UserError(f"{where} has no row below its header.")
    return rows


def _code(colors: np.ndarray) -> np.ndarray:
    """Red, green and blue in one number; (..., 3 or 4) -> (...) int64. Alpha is ignored."""
    red, green, blue = (colors[..., k].astype(np.int64) for k in range(3))
    return red << 16 | green << 8 | blue


def _distances(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Euclidean distances between colours, in levels; (K,) and (N,) -> (K, N) float32."""
    one, two = (_channels(each).astype(np.float32) for each in (codes, others))
    return np.sqrt(((one[:, None] - two[None]) ** 2).sum(-1))


def _channels(codes: np.ndarray) -> np.ndarray:
    """(..., ) -> (..., 3)"""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1)


def _spelled(color: Sequence[int] | np.ndarray) -> str:
    return ",".join(map(str, color))


def _csv_rows(
    lines: Sequence[str], delimiter: str, header: list[str], place: dict[str, int], where: str
) -> list[tuple[str, Color]]:
    rows = []
    for number, cells in enumerate(csv.reader(lines[1:], delimiter=delimiter), 2):
        try:
            name, *color = (cells[place[column]].strip() for column in _COLUMNS)
            order = int(cells[header.index("index")]) if "index" in header else number
            rows.append((order, name.split(";")[0].strip(), _color(color)))
        except (IndexError, ValueError):
            raise UserError(
                f"{where}: line {number} is {','.join(cells)!r}; it needs a name and a colour from 0 to 255."
            ) from None
    return [(name, color) for _, name, color in sorted(rows, key=lambda row: row[0])]


def _row(
    pattern: re.Pattern[str], groups: tuple[int, int, int, int], line: str, example: str, where: str
) -> tuple[str, Color]:
    """The name and the colour in a line, by the groups of a pattern: name, red, green, blue."""
    match = pattern.fullmatch(line)
    try:
        if match:
            name, *color = match.group(*groups)
            return name, _color(color)
    except ValueError:
        pass
    raise UserError(f"{where}: the line {line.strip()!r} must look like {example}.")


def _color(cells: Sequence[str]) -> Color:
    red, green, blue = (int(cell) for cell in cells)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError
    return red, green, blue
