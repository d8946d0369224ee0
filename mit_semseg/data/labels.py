"""Label files: their values, and what those stand for.

Inside the project a label holds 0 where there is no class and k for class k - 1, whatever its file holds: its
standard values. What is added at a border, or by somebody's transform, is then ignored.
"""

from dataclasses import dataclass
from os import PathLike

import numpy as np
from PIL import Image

from ..errors import UserError
from .files import naming, regular

GRAY_STEP = {"L;2": 85, "L;4": 17}
"""By how Pillow names a file's packing: the step with which it spreads 2- and 4-bit gray over 0 to 255."""

_LARGEST = 2**16 - 1
_LOSSY = ("JPEG", "MPO", "JPEG2000")


@dataclass(frozen=True, slots=True)
class LabelCoding:
    """What the values of label files stand for: value v is class v - offset, smaller ones are ignored.

    >>> LabelCoding(num_class=3).standard(np.array([0, 1, 3]))
    array([0, 1, 3])
    >>> LabelCoding(num_class=3, offset=0, ignore=255).standard(np.array([0, 2, 255]))
    array([1, 3, 0], dtype=uint8)
    """

    num_class: int | None = None
    """None lets every value pass."""
    offset: int = 1
    """The value of the first class, 0 or more."""
    ignore: int | None = None
    """One more value to ignore."""

    def standard(self, values: np.ndarray) -> np.ndarray:
        """0 where there is no class, k for class k - 1; uint8, or int32 where a value may not fit."""
        small = np.uint8 if self.num_class is not None and self.num_class < 256 else np.int32
        if self.offset == 1 and self.ignore is None:
            return values if values.dtype == np.uint8 else values.astype(small)
        standard = np.maximum(values.astype(np.int32) - (self.offset - 1), 0)
        if self.ignore is not None:
            standard[values == self.ignore] = 0
        return standard.astype(small)

    def beyond(self, values: np.ndarray) -> int | None:
        """The largest value that stands for no class and is not ignored, if there is one."""
        if self.num_class is None:
            return None
        largest, limit = int(values.max()), self.offset + self.num_class - 1
        if largest > limit and largest == self.ignore:
            largest = int(values.max(initial=0, where=values != self.ignore))
        return largest if largest > limit else None


def read_values(path: str | PathLike[str]) -> np.ndarray:
    """The values of a label file, (H, W) uint8 or uint16.

    Palette images give their indices, whatever their colours; 1-bit images 0 and 1.

    Raises: UserError, with the file's name, if it cannot be decoded or is no lossless index image.
    """
    with naming(path), Image.open(regular(path)) as image:
        if image.format in _LOSSY:
            raise UserError(
                f"{path} is a {image.format} file, whose compression changes class numbers. Draw the labels "
                "anew as PNG."
            )
        packing = image.tile[0].args if image.tile else None
        image.load()
        if image.mode in ("L", "P", "1"):
            values = np.array(image, np.uint8)
            return values // GRAY_STEP[packing] if packing in GRAY_STEP else values
        if image.mode == "I" or image.mode.startswith("I;16"):
            wide = np.array(image)
            if wide.min() < 0 or wide.max() > _LARGEST:
                raise UserError(
                    f"{path} holds values from {wide.min()} to {wide.max()}; 0 to {_LARGEST} fit."
                )
            return wide.astype(np.uint16)
        colours = " Turn its colours into class numbers first." if image.mode.startswith("RGB") else ""
        raise UserError(
            f"{path} is a label of mode {image.mode}; it must be an 8- or 16-bit gray or a palette image "
            f"whose values are class numbers.{colours}"
        )


def read_label(path: str | PathLike[str], coding: LabelCoding) -> np.ndarray:
    """The standard values of a label file, (H, W).

    Raises: UserError as `read_values`, and for a value that ``coding`` has no class for.
    """
    values = read_values(path)
    beyond = coding.beyond(values)
    if beyond is None:
        return coding.standard(values)
    last = coding.offset + (coding.num_class or 0) - 1
    hint = ""
    if beyond in (255, _LARGEST):
        hint = f" If {beyond} stands for unlabelled, set DATASET.ignore_label {beyond}."
    raise UserError(
        f"{path} holds the value {beyond}, but with {coding.num_class} classes (DATASET.num_class) labels go "
        f"from {coding.offset} (DATASET.label_offset) to {last}.{hint}"
    )
