"""The names and colours of the classes that come out."""

import csv
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...resources import find
from ..classes import ClassTable, load_classes, palette
from .release import Release


def read_names(path: str) -> ClassTable:
    """A table of classes from a file: CSV as `load_classes` reads it, or a name a line.

    Of plain lines, empty ones and names such as ``__ignore__`` and ``_background_`` (LabelMe's for what is no
    class) do not count.

    Raises: UserError if the file cannot be used.
    """
    try:
        lines = find(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    lines = [line for line in lines if line.strip()]
    header = [cell.strip().lower() for cell in next(csv.reader(lines[:1]), [])]
    if "name" in header and len(header) > 1:
        return load_classes(path, len(lines) - 1)
    names = [line.strip() for line in lines if not line.strip().startswith("_")]
    if not names:
        raise UserError(f"{path} names no class. It needs one name a line, or the columns index,name.")
    return ClassTable(tuple(names), palette(len(names)))


def classes_of(release: Release, table: np.ndarray, largest: int, *, changed: bool) -> ClassTable:
    """What the classes are called and drawn as.

    Args:
        table: the class of each file value, as `recoding.table_of` gives it.
        largest: label that occurs.
        changed: whether the user's options have changed the format's coding. Then a class that its own value
            still belongs to keeps its name, and another is called as all the values that it is made of.
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
            # load_classes shows the first of names between semicolons; the others tell what it is made of.
            names.append(";".join(dict.fromkeys(release.values[value][0] for value in values)))
            colors[label - 1] = release.values[values[0]][1]
        else:
            names.append(f"class {label}")
    return ClassTable(tuple(names), colors)


def require_two(classes: ClassTable, source: Path, *, hint: str) -> None:
    """Raises: UserError if there is nothing to tell apart."""
    if len(classes.names) < 2:
        found = f'only the class "{classes.names[0]}"' if classes.names else "no labelled pixel"
        raise UserError(f"{source} has {found}; training needs two classes or more. {hint}")
