"""Readers of label files that are images: of numbers, or of colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import UserError
from ..files import naming
from ..labels import read_values
from .release import Color

_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif")


class NoImages:
    """Label files that hold no image."""

    def embedded(self, label: Path) -> bytes:
        raise AssertionError(f"{label} holds no image")


class IndexLabels(NoImages):
    """Gray and palette images, by their values."""

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        if label.suffix.lower() in _LOSSY:
            raise UserError(
                f"{label} is a JPEG, which does not keep values as they were. Labels should be PNG."
            )
        return read_values(label)


@dataclass(frozen=True)
class ColorLabels(NoImages):
    """Images in which a colour stands for a value; black is 0 where the table does not say otherwise."""

    codes: np.ndarray
    """The colours as `_code` gives them, sorted, (N,) int64."""
    numbers: np.ndarray
    """The value of each, (N,) uint16."""
    refuse_unknown: bool = True
    """Else colours that are not in the table are 0."""

    @staticmethod
    def of(colors: Sequence[Color], numbers: Sequence[int], *, refuse_unknown: bool = True) -> "ColorLabels":
        """A reader for colours and what they stand for."""
        table = {(0, 0, 0): 0, **dict(zip(colors, numbers, strict=True))}
        codes = _code(np.array(list(table)))
        order = np.argsort(codes)
        return ColorLabels(codes[order], np.array(list(table.values()), np.uint16)[order], refuse_unknown)

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        with naming(label), Image.open(label) as opened:
            if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
                raise UserError(
                    f"{label} is of mode {opened.mode}; a colour-coded label is RGB or a palette image."
                )
            # Palette images through RGBA, since Pillow warns about transparent ones that become RGB.
            colors = np.asarray(opened.convert("RGBA" if opened.mode == "P" else "RGB"))
        codes = _code(colors)
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        unknown = self.codes[place] != codes
        if self.refuse_unknown and unknown.any():
            raise UserError(self._complaint(label, colors[unknown][0, :3].tolist(), int(unknown.sum())))
        values = self.numbers[place]
        values[unknown] = 0
        return values

    def _complaint(self, label: Path, color: list[int], count: int) -> str:
        lossy = label.suffix.lower() in _LOSSY
        cause = " JPEG does not keep colours; labels should be PNG." if lossy else ""
        return (
            f"{label} holds the colour {','.join(map(str, color))}, which the table has not ({count} pixels "
            f"of such colours).{cause} Add it to the table, or take unknown colours for unlabelled with "
            f"--unknown-colors unlabelled."
        )


def _code(colors: np.ndarray) -> np.ndarray:
    """Red, green and blue in one number; (..., 3 or 4) -> (...) int64. Alpha does not count."""
    red, green, blue = (colors[..., k].astype(np.int64) for k in range(3))
    return red << 16 | green << 8 | blue
