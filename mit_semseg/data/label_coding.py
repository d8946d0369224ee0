"""What the values in label files mean.

Inside the project, every label holds standard values: 0 for no class, and k for class k - 1. They do not
depend on the coding of the file. Zeros from padding or from a user's transform are thus ignored.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class LabelCoding:
    """The meaning of the values in label files: value v is class v - offset, and smaller values are ignored.

    >>> LabelCoding(num_class=3).standard(np.array([0, 1, 3]))
    array([0, 1, 3])
    >>> LabelCoding(num_class=3, offset=0, ignore=255).standard(np.array([0, 2, 255]))
    array([1, 3, 0], dtype=uint8)
    """

    num_class: int | None = None
    """None allows every value."""
    offset: int = 1
    """The value of the first class, 0 or more."""
    ignore: int | None = None
    """One more value to ignore."""

    def standard(self, values: np.ndarray) -> np.ndarray:
        """Standard values: 0 for no class, k for class k - 1; uint8, or int32 if they may not fit."""
        small = np.uint8 if self.num_class is not None and self.num_class < 256 else np.int32
        if self.offset == 1 and self.ignore is None:
            return values if values.dtype == np.uint8 else values.astype(small)
        standard = np.maximum(values.astype(np.int32) - (self.offset - 1), 0)
        if self.ignore is not None:
            standard[values == self.ignore] = 0
        return standard.astype(small)

    def beyond(self, values: np.ndarray) -> int | None:
        """The largest value that is above the last class and not ignored; None if there is none."""
        if self.num_class is None or not values.size:
            return None
        largest, limit = int(values.max()), self.offset + self.num_class - 1
        if largest > limit and largest == self.ignore:
            largest = int(values.max(initial=0, where=values != self.ignore))
        return largest if largest > limit else None
