"""From the values of label files to labels of 8 bits: what the format says, then what the user says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError

_VALUES = 2**16
REFUSED = -1


@dataclass(frozen=True)
class Recoding:
    """A class for each file value."""

    table: np.ndarray
    """(65536,) int32: 0 for unlabelled, `REFUSED` for a value that should not occur."""
    limit: int = 255
    """The largest class there is."""
    limited_by: str = ""
    """The file that names the classes, if one does."""

    def apply(self, values: np.ndarray, where: str) -> np.ndarray:
        """Labels, uint8. Raises: UserError that begins with ``where`` for a value that has no class."""
        labels = self.table[values]
        bad = (labels < 0) | (labels > self.limit)
        if bad.any():
            raise UserError(f"{where} {self._complaint(np.unique(values[bad]).tolist())}")
        return labels.astype(np.uint8)

    def _complaint(self, values: list[int]) -> str:
        first = values[0]
        shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
        holds = f"holds the value{'s' * (len(values) > 1)} {shown}"
        if self.table[first] < 0:
            return f'{holds}, which no class has. --map "{first}:0" makes {first} unlabelled.'
        if self.limited_by:
            return (
                f"{holds}; {first} would be class {self.table[first]}, but {self.limited_by} names "
                f"{self.limit}. Name it too, or leave it out with --ignore {first}."
            )
        if first == 255:
            return f"{holds}, which most often stands for unlabelled: --ignore 255."
        return (
            f"{holds}, but labels of 8 bits have classes from 1 to {self.limit}. Give the values that matter "
            f'smaller numbers and drop the rest: --map "{first}:1, *:0".'
        )


def table_of(
    coding: Mapping[int, int] | None,
    others: int = REFUSED,
    *,
    offset: int = 1,
    mapped: Mapping[int | None, int] | None = None,
    ignored: Sequence[int] = (),
) -> np.ndarray:
    """The class of each file value, (65536,) int32.

    Args:
        coding: of the format. None: value v is class v - ``offset`` + 1, smaller ones are unlabelled.
        others: what values outside of ``coding`` become.
        mapped: the user's, which wins over the format's; None stands for all values that are not named in it.
        ignored: values that become 0; they win over all.

    >>> table_of(None, mapped={8: 1}, ignored=[255])[[0, 1, 7, 8, 255]].tolist()
    [0, 1, 7, 1, 0]
    """
    if coding is None:
        table = np.maximum(np.arange(_VALUES, dtype=np.int32) - (offset - 1), 0)
    else:
        table = np.full(_VALUES, others, np.int32)
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
