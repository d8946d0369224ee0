"""From values to classes: which value becomes which class, and the classes' names and colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.classes import ClassTable, palette
from ...data.label_diagnosis import spelled
from ...errors import UserError
from .release import Release

_VALUES = 2**16
_REFUSED = -1
_MOST_MAPPED = 32  # values in a proposed map


@dataclass(frozen=True)
class Recoding:
    """The class of each file value."""

    table: np.ndarray
    """(65536,) int32: 0 for unlabelled, -1 for a value that must not occur."""
    limit: int = 255
    """The largest class."""
    limited_by: str = ""
    """The file that names the classes, if there is one."""

    def refused(self, values: np.ndarray) -> np.ndarray:
        """The ones among distinct values that have no class."""
        labels = self.table[values]
        return values[(labels < 0) | (labels > self.limit)]

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Labels, uint8, of values that all have a class."""
        return self.table.astype(np.uint8)[values]

    def pixels(self, counts: np.ndarray) -> np.ndarray:
        """The pixels of each label, (256,) int64, from those of each file value, (65536,)."""
        values = np.flatnonzero(counts)
        pixels = np.zeros(256, np.int64)
        np.add.at(pixels, self.table[values], counts[values])
        return pixels

    def complaint(self, values: list[int], present: list[int]) -> str:
        """Why values that `refused` names have no class, and what to do, in sentences.

        Args:
            present: all values of the labels.
        """
        unknown = [value for value in values if self.table[value] < 0]
        if unknown:
            pairs = ", ".join(f"{value}:0" for value in unknown)
            belong = "belongs" if len(unknown) == 1 else "belong"
            return f'{_few(unknown)} {belong} to no class. To make that unlabelled: --map "{pairs}".'
        if self.limited_by:
            would_be = spelled(self.table[values].tolist())
            return (
                f"{_few(values)} would be class{'es' * (len(values) > 1)} {would_be}, but {self.limited_by} "
                f"has {self.limit} names. Add the missing ones, or make that unlabelled: --ignore "
                f"{','.join(map(str, values))}."
            )
        few = [value for value in present if value][:_MOST_MAPPED]
        pairs = ", ".join(f"{value}:{k}" for k, value in enumerate(few, 1))
        rest = ", *:0" if len(few) < np.count_nonzero(present) else ""
        return (
            f"8-bit labels have classes from 1 to {self.limit}. Map the values that matter to smaller "
            f'numbers and drop the rest, as in: --map "{pairs}{rest}".'
        )


def _few(values: list[int]) -> str:
    return f"The value{'s' * (len(values) > 1)} {spelled(values)}"


def table_of(
    coding: Mapping[int, int] | None,
    *,
    offset: int = 1,
    mapped: Mapping[int | None, int] | None = None,
    ignored: Sequence[int] = (),
) -> np.ndarray:
    """The class of each file value, (65536,) int32.

    Args:
        coding: the format's; other values are refused. None: value v is class v - ``offset`` + 1, and smaller
            values are unlabelled.
        mapped: the user's, which overrides the format's; None stands for all values that it does not name.
        ignored: values that become 0; they override both.

    >>> table_of(None, mapped={8: 1}, ignored=[255])[[0, 1, 7, 8, 255]].tolist()
    [0, 1, 7, 1, 0]
    """
    if coding is None:
        table = np.maximum(np.arange(_VALUES, dtype=np.int32) - (offset - 1), 0)
    else:
        table = np.full(_VALUES, _REFUSED, np.int32)
        for value, label in coding.items():
            table[value] = label
    mapped = mapped or {}
    if None in mapped:
        table[:] = mapped[None]
    for named, label in mapped.items():
        if named is not None:
            table[named] = label
    table[list(ignored)] = 0
    return table


def classes_of(release: Release, table: np.ndarray, largest: int, *, changed: bool) -> ClassTable:
    """The names and colours of the classes.

    Args:
        table: the class of each file value, as `table_of` gives it.
        largest: the largest label that occurs.
        changed: whether the user's options change the format's coding. Then a class keeps its name if one of
            its own values still belongs to it; otherwise it is named after all its values.
    """
    own = release.classes
    if own is not None and not changed:
        return own
    num_class = max([largest, *(int(table[value]) for value in release.values)])
    names: list[str] = []
    colors = palette(num_class)
    for label in range(1, num_class + 1):
        values = [value for value in release.values if table[value] == label]
        kept = any((release.coding or {}).get(value) == label for value in values)
        if own is not None and label <= len(own.names) and (kept or not values):
            names.append(own.names[label - 1])
            colors[label - 1] = own.colors[label - 1]
        elif values:
            # load_classes shows the first of several names; the others record what the class is made of.
            names.append(";".join(dict.fromkeys(release.values[value][0] for value in values)))
            colors[label - 1] = release.values[values[0]][1]
        else:
            names.append(f"class {label}")
    return ClassTable(tuple(names), colors)


def require_two(classes: ClassTable, source: Path, *, hint: str) -> None:
    """Raises: UserError if there are fewer than two classes."""
    if len(classes.names) < 2:
        found = f'only the class "{classes.names[0]}"' if classes.names else "no labelled pixel"
        raise UserError(f"{source} has {found}; training needs at least two classes. {hint}")
