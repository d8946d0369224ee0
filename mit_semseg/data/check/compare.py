"""What does not fit within one pair: image against label, file against list, values against classes."""

from collections.abc import Iterator

import numpy as np

from ..labels import LabelCoding
from .examine import IMAGE, LABEL, Finding

VOID = (255, 65535)
"""Values that usually stand for unlabelled."""

Problem = tuple[str, int, str]
"""A key of `kinds.KINDS`, the file (`IMAGE` or `LABEL`), the detail."""


def compare(finding: Finding, listed: tuple[int, int]) -> Iterator[Problem]:
    """All that is wrong or notable with a pair, but for the values of its label.

    Args:
        listed: width and height in the list, in pixels; 0 if they are not there.
    """
    image, label = finding.image, finding.label
    for file, number in ((image, IMAGE), (label, LABEL)):
        if file.problem:
            yield file.problem, number, file.detail
    if label.mode == "P":
        yield "palette", LABEL, ""
    if label.mode == "I" or label.mode.startswith("I;16"):
        yield "label_16bit", LABEL, ""
    if not image.width:
        return
    stored = (image.width, image.height)
    if 0 in listed:
        yield "no_size", IMAGE, ""
    elif listed != stored:
        yield "listed_size", IMAGE, f"the list says {_size(listed)}, the file {_size(stored)}"
    if label.width:
        yield from _compare_sizes(stored, (label.width, label.height), image.orientation)


def _compare_sizes(image: tuple[int, int], label: tuple[int, int], orientation: int) -> Iterator[Problem]:
    upright = image[::-1] if orientation >= 5 else image
    if label not in (image, upright):
        turned = f" (EXIF orientation {orientation})" if orientation > 1 else ""
        yield "size_mismatch", LABEL, f"label {_size(label)}, image {_size(image)}{turned}"
    elif image != upright:
        sizes = f"orientation {orientation}: {_size(image)} stored, {_size(upright)} upright"
        if label == image:
            yield "exif_stored", IMAGE, f"{sizes}, label as stored"
        else:
            yield "exif_rotated", IMAGE, f"{sizes}, label as upright"
    elif orientation > 1:
        yield "exif_undecided", IMAGE, f"orientation {orientation}"


def values_beyond(values: np.ndarray, coding: LabelCoding) -> np.ndarray:
    """Those of some distinct values that stand for no class and are not ignored."""
    if coding.num_class is None:
        return values[:0]
    beyond = values[values > coding.offset + coding.num_class - 1]
    return beyond if coding.ignore is None else beyond[beyond != coding.ignore]


def labelled(values: np.ndarray, coding: LabelCoding) -> np.ndarray:
    """Which of some distinct values are not unlabelled, (K,) bool; those beyond the classes count."""
    counts = values >= coding.offset
    return counts if coding.ignore is None else counts & (values != coding.ignore)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
