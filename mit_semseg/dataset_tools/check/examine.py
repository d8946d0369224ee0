"""One pair of files: read in a process that a bad file may kill, then compared with each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ...data.bands import BandSelection
from ...data.orientation import Fit, fit, upright_size
from ...data.raster import is_raster
from .alignment import LONG_EDGE, Agreement, agreement
from .decode import FileFacts, read_image, read_label
from .decode_bands import hint_at_bands, read_bands
from .near_duplicates import appearance_hash

IMAGE, LABEL = 0, 1
"""Which file of a pair."""

_MOSTLY = 0.9  # share of pixels without data that is worth a note

Problem = tuple[str, int, str]
"""A key of `issue_types.ISSUE_TYPES`, the file (`IMAGE` or `LABEL`), the detail."""


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What was found out about an image and its label. Small, because it is sent between processes."""

    image: FileFacts
    label: FileFacts
    appearance: bytes = b""
    """See `appearance_hash`."""
    agreement: Agreement | None = None
    """None if nothing can be said, or if the label has not the size of the stored image."""


def examine(
    pair: tuple[str, str], mark: Callable[[int], None], selection: BandSelection | None = None
) -> PairFacts:
    """Reads an image and its label.

    Args:
        pair: paths of the image and the label.
        mark: called with `IMAGE` or `LABEL` before that file is read, in case the file kills this process.
        selection: the bands of the images; None for 8-bit RGB.
    """
    mark(IMAGE)
    image = read_image(pair[0]) if selection is None else read_bands(pair[0], selection)
    if selection is None and image.problem and is_raster(pair[0]) and (hint := hint_at_bands(pair[0])):
        image = FileFacts("needs_bands", hint, image.digest)
    mark(LABEL)
    label = read_label(pair[1])
    appearance, agrees = b"", None
    if image.small is not None:
        appearance = appearance_hash(image.small)
        if label.small is not None and (image.width, image.height) == (label.width, label.height):
            agrees = agreement(image.small, label.small, max(image.width, image.height) / LONG_EDGE)
    return PairFacts(replace(image, small=None), replace(label, small=None), appearance, agrees)


def compare(facts: PairFacts, listed: tuple[int, int]) -> Iterator[Problem]:
    """Everything that is wrong or notable with a pair, except for the values of its label.

    Args:
        listed: width and height in the list, in pixels; 0 if the list has none.
    """
    image, label = facts.image, facts.label
    for file, number in ((image, IMAGE), (label, LABEL)):
        if file.problem:
            yield file.problem, number, file.detail
    if image.constant:
        yield "constant_band", IMAGE, image.constant
    if image.empty > _MOSTLY:
        yield "mostly_nodata", IMAGE, f"{image.empty:.1%} of its pixels"
    if label.nodata >= 0:
        yield "label_nodata", LABEL, f"value {label.nodata}"
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
    view = fit(image, label, orientation)
    if view is Fit.NEITHER:
        turned = f" (EXIF orientation {orientation})" if orientation > 1 else ""
        yield "size_mismatch", LABEL, f"label {_size(label)}, image {_size(image)}{turned}"
    elif view is Fit.UNDECIDED:
        yield "exif_undecided", IMAGE, f"orientation {orientation}"
    elif orientation > 1:
        kind = "exif_stored" if view is Fit.STORED else "exif_rotated"
        sizes = f"{_size(image)} stored, {_size(upright_size(image, orientation))} upright"
        yield kind, IMAGE, f"orientation {orientation}: {sizes}, label as {view.value}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
