"""Binary masks: an image and a mask of two values for each, such as 0 and 255, or 0 and 1."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....data.classes import ClassTable, palette
from ....data.labels import read_values
from ..labels import FixableError, LabelImages
from ..pairing import pair_by_name
from ..release import PrepareOptions, Release
from ..shapes import share_between
from ..source import SourceFolder

FOREGROUND = 255


@dataclass(frozen=True)
class BinaryMasks(LabelImages):
    """Masks of two values, as 0 and 255."""

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        values = read_values(label, convert=True, one_channel=True)
        share = share_between(values)
        if share:
            raise FixableError(
                f"{label} has {share:.2%} of its pixels between 0 and {values.max()}, so it is not a mask of "
                f"two values.",
                f"If the edges are soft: mit-semseg data prepare folders SOURCE OUT --map "
                f'"0:1, {values.max()}:2, *:0" ignores them. If they hold several classes: the format '
                f"folders.",
            )
        return np.where(values > 0, np.uint8(FOREGROUND), np.uint8(0))


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """0 is the class background, and any other value the class foreground, as if it were 255."""
    pairing = pair_by_name(source, options)
    names = ("background", "foreground")
    colors = np.concatenate([palette(2)])
    return Release(
        pairing.pairs,
        BinaryMasks(),
        coding={0: 1, FOREGROUND: 2},
        classes=ClassTable(names, colors),
        values={v: (names[k], tuple(colors[k].tolist())) for k, v in enumerate((0, FOREGROUND))},
        notes=pairing.notes,
        problems=pairing.problems,
    )
