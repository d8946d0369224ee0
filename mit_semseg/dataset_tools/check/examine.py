"""One pair of files: read in a process that a bad file may kill, then compared with each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from ...data.bands import BandSelection
from ...data.orientation import Fit, fit, upright_size
from ...data.raster import is_raster
from ...data.remote import forget
from ...data.scene_pairs import Region
from .alignment import LONG_EDGE, Agreement, agreement
from .decode import FileFacts, read_image, read_label
from .decode_bands import hint_at_bands, read_bands
from .decode_windows import compare_scenes, ground_of_window, read_image_window, read_label_window
from .ground import Ground
from .near_duplicates import appearance_hash

IMAGE, LABEL = 0, 1
"""Which file of a pair."""

_MOSTLY = 0.9  # share of pixels without data that is worth a note

Problem = tuple[str, int, str]
"""A key of `issue_types.ISSUE_TYPES`, the file (`IMAGE` or `LABEL`), the detail."""


class Pair(NamedTuple):
    """The paths of an image and its label, and for scenes the window of both."""

    image: str
    label: str
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What was found out about an image and its label. Small, because it is sent between processes."""

    image: FileFacts
    label: FileFacts
    appearance: bytes = b""
    """See `appearance_hash`."""
    agreement: Agreement | None = None
    """None if nothing can be said, or if the label has not the size of the stored image."""
    ground: Ground | None = None
    """That a window shows; None for whole images."""


def examine(pair: Pair, mark: Callable[[int], None], selection: BandSelection | None = None) -> PairFacts:
    """Reads an image and its label.

    Args:
        mark: called with `IMAGE` or `LABEL` before that file is read, in case the file kills this process.
        selection: the bands of the images; None for 8-bit RGB.
    """
    mark(IMAGE)
    image = _read_image(pair, selection)
    mark(LABEL)
    label = read_label(pair.label) if pair.region is None else read_label_window(pair.label, pair.region)
    for path, facts in ((pair.image, image), (pair.label, label)):
        if facts.problem:  # the copy of a remote file, which somebody will replace
            forget(path)
    ground = None
    if pair.region is not None and image.width:
        ground = ground_of_window(pair.image, pair.region, selection)
        if label.width and not label.problem:
            kind, what = compare_scenes(pair.image, pair.label, selection)
            label = replace(label, problem=kind, detail=what)
    appearance, agrees = b"", None
    if image.small is not None:
        appearance = appearance_hash(image.small)
        size = image.width, image.height
        # A small window has too few borders to say how it lies on its image.
        enough = pair.region is None or max(size) >= LONG_EDGE
        if enough and label.small is not None and size == (label.width, label.height):
            agrees = agreement(image.small, label.small, max(size) / LONG_EDGE)
    return PairFacts(replace(image, small=None), replace(label, small=None), appearance, agrees, ground)


def _read_image(pair: Pair, selection: BandSelection | None) -> FileFacts:
    if pair.region is not None:
        return read_image_window(pair.image, pair.region, selection)
    if selection is not None:
        return read_bands(pair.image, selection)
    image = read_image(pair.image)
    if image.problem and is_raster(pair.image) and (hint := hint_at_bands(pair.image)):
        return FileFacts("needs_bands", hint, image.digest)
    return image


def compare(facts: PairFacts, listed: tuple[int, int]) -> Iterator[Problem]:
    """Everything that is wrong or notable with a pair, except for the values of its label.

    Args:
        listed: width and height in the list, in pixels; 0 if the list has none.
    """
    image, label = facts.image, facts.label
    for file, number in ((image, IMAGE), (label, LABEL)):
        if file.problem:
            for place in file.places:
                yield file.problem, number, f"{place}: {file.detail}"
            if not file.places:
                yield file.problem, number, file.detail
    if image.constant:
        yield "constant_band", IMAGE, image.constant
    if image.empty > _MOSTLY:
        yield "mostly_nodata", IMAGE, f"{image.empty:.1%} of its pixels"
    if label.nodata >= 0:
        yield "label_nodata", LABEL, f"value {label.nodata}"
    if label.mode == "P":
        yield "palette", LABEL, ""
    if label.mode == "I" or label.mode.startswith("I;16") or label.mode.endswith("int16"):
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
