"""The classes of a run: the class of each value, its name, and whether both fit the labels."""

from dataclasses import dataclass, replace

import numpy as np

from ...data.classes import ClassTable
from ...data.label_coding import LabelCoding
from ...data.label_diagnosis import diagnose, spelled
from ...errors import UserError
from .classes import Recoding, classes_of, table_of
from .names import BACKGROUND, NO_CLASS, Names, read_names
from .release import PrepareOptions, Release

_SHOWN = 12  # names spelled out in a note
_WRONG = ("binary_mask", "soft_edges", "scaled", "beyond")  # diagnoses that contradict any class table


@dataclass(frozen=True)
class Naming:
    """Values, classes and names, from the format, the user's options and the file of names."""

    options: PrepareOptions
    release: Release
    """With the values from the file of names, if the format has none of its own."""
    recoding: Recoding
    own: bool
    """Whether the format gives the classes of its values."""
    given: Names | None = None
    """The names of --names."""

    @property
    def names_by_value(self) -> dict[int, str]:
        """The names of file values."""
        names = {value: name for value, (name, _) in self.release.values.items()}
        return names | (self.given.unlabelled if self.given is not None else {})

    def classes(self, largest: int) -> ClassTable:
        """Names and colours of the classes. ``largest`` is the largest label that occurs."""
        changed = bool(self.options.map or self.options.ignore)
        if self.given is not None and not (self.given.values and changed):
            return self.given.table
        return classes_of(self.release, self.recoding.table, largest, changed=changed)

    def doubt(self, counts: np.ndarray) -> str:
        """Why these values contradict the options, and the remedies, in sentences; "" if they do not.

        Args:
            counts: number of pixels of each file value, (65536,).
        """
        if self.own:
            return ""
        return self._shifted(np.flatnonzero(counts).tolist()) or self._diagnosed(counts)

    def complaint(self, counts: np.ndarray) -> str:
        """What to do about values that have no class, in sentences. ``counts`` is as for `doubt`."""
        values = np.flatnonzero(counts)
        bad = self.recoding.refused(values).tolist()
        said = "" if self.own else self._diagnosed(counts)
        if self.given is not None and self.given.values and not said:
            them = "it" if len(bad) == 1 else "them"
            way = f"Add a row, or make {them} unlabelled: --ignore {','.join(map(str, bad))}."
            if self.given.values[0] == 0 and not counts[0]:
                way += f' If "{self.given.table.names[0]}" has the value 1: --label-offset 1.'
            return f"{self.given.path} gives no name to {spelled(bad)}. {way}"
        return said or self.recoding.complaint(bad, values.tolist())

    def notes(self) -> list[str]:
        """The meaning of each value according to the file of names, in sentences."""
        if self.given is None or not self.given.values or self.own:
            return []
        table = self.recoding.table
        said = [
            f"{value} ({name}) is {f'class {table[value]}' if table[value] else 'unlabelled'}"
            for value, name in sorted(self.names_by_value.items())
        ]
        more = f", and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
        return [f"Label values, as {self.given.path} gives them: {', '.join(said[:_SHOWN])}{more}."]

    def _diagnosed(self, counts: np.ndarray) -> str:
        """The diagnosis of the values that the options do not mention, in sentences; "" if none."""
        options = self.options
        if None in options.map:
            return ""
        counts = counts.copy()
        counts[[*options.ignore, *(value for value in options.map if value is not None)]] = 0
        values = np.flatnonzero(counts)
        if not len(values):
            return ""
        limit = None
        if self.given is not None:
            limit = max(self.given.values) if self.given.values else len(self.given.table.names)
        offset = 1 if options.label_offset is None else options.label_offset
        found = diagnose(values, counts[values], LabelCoding(limit, offset))
        if found is None or found.kind not in _WRONG or (options.map and found.kind != "beyond"):
            return ""
        ways = found.for_prepare()
        if found.kind == "beyond" and (self.given is not None or not ways):
            return ""
        return f"The labels {found.says}. {ways}"

    def _shifted(self, values: list[int]) -> str:
        """The two readings of names that may start at value 0 or 1, in sentences; "" if there is one."""
        given, options = self.given, self.options
        if given is None or options.label_offset is not None or options.map or 0 in options.ignore:
            return ""
        number, first = len(given.table.names), given.table.names[0]
        counted = given.values in ((), tuple(range(1, number + 1)))
        if not given.values and given.first.casefold() in (*BACKGROUND, *NO_CLASS):
            if 0 not in values:
                return ""
            return (
                f'{given.path} names "{given.first}" first, and the labels hold 0. If 0 is "{given.first}", '
                f"a class of its own: --label-offset 0. If it is unlabelled, remove that line."
            )
        if counted and values == list(range(number)):
            return (
                f"{given.path} has {number} names, and the labels hold 0 to {number - 1}. If 0 is "
                f'"{first}": --label-offset 0. If 0 is unlabelled and 1 is "{first}": --label-offset 1.'
            )
        return ""


def naming_of(release: Release, options: PrepareOptions) -> Naming:
    """The naming of a run. Raises: UserError for a file of names that cannot be used."""
    own = release.coding is not None
    given = None if options.names is None else read_names(options.names, offset=options.label_offset)
    if given is not None and given.values:
        given = _in_order_of(given) if own or options.label_offset is not None else given
    if given is not None and given.values:
        release = _coded(release, given)
    offset = 1 if options.label_offset is None else options.label_offset
    recoding = Recoding(table_of(release.coding, offset=offset, mapped=options.map, ignored=options.ignore))
    if given is not None and not given.values:
        recoding = replace(recoding, limit=len(given.table.names), limited_by=given.path)
    return Naming(options, release, recoding, own, given)


def _coded(release: Release, given: Names) -> Release:
    """The release with the values of a file of names, as if its format gave them."""
    colors = given.table.colors.tolist()
    return replace(
        release,
        coding={
            0: 0,
            **dict.fromkeys(given.unlabelled, 0),
            **{value: k for k, value in enumerate(given.values, 1)},
        },
        classes=given.table,
        values={
            value: (name, tuple(color))
            for value, name, color in zip(given.values, given.table.names, colors, strict=True)
        },
    )


def _in_order_of(given: Names) -> Names:
    """The names without their values, for values that only number the classes."""
    first = given.values[0]
    if first not in (0, 1) or given.values != tuple(range(first, first + len(given.values))):
        raise UserError(
            f"{given.path} must have a row for each class, with the numbers 1, 2, 3, ... or 0, 1, 2, ..."
        )
    return Names(given.path, given.table)
