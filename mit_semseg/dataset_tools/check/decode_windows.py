"""A window of a scene: read without the rest of the file, and described in a few numbers."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...data.bands import BandSelection
from ...data.label_files import LabelError
from ...data.label_values import count_classes
from ...data.scene_pairs import (
    Region,
    mismatch,
    name_of,
    open_image,
    read_label_region,
    read_rgb_region,
)
from ...errors import UserError
from ...runtime.near_names import did_you_mean
from .alignment import small_borders, small_gray
from .decode import FileFacts, digest_of
from .decode_bands import about_bands


def read_image_window(path: str, region: Region, selection: BandSelection | None) -> FileFacts:
    """Reads a window of an image. Never raises, whatever the file is or holds.

    Args:
        selection: the bands to read; None for 8-bit RGB.
    """
    try:
        scene = open_image(Path(path), region)
    except UserError as error:
        return _failed(path, error)
    types = scene.band_types
    about: dict[str, Any] = {
        "width": region.size[0],
        "height": region.size[1],
        "mode": f"{len(types)} x {types[0]}",
        "system": name_of(scene),
    }
    try:
        if selection is not None:
            pixels = scene.select(*region, selection)[0]
            return FileFacts(digest=_digest(pixels.values), **about, **about_bands(pixels, selection))
        values, valid = read_rgb_region(Path(path), region)
    except UserError as error:
        if "damaged" in str(error):
            return _failed(path, error, **about)
        return FileFacts(
            "needs_bands" if selection is None else "band_missing", _clause(path, error), **about
        )
    small = small_gray(Image.fromarray(values))
    return FileFacts(digest=_digest(values), empty=1 - float(valid.mean()), small=small, **about)


def read_label_window(image: str, label: str, region: Region) -> FileFacts:
    """Reads a window of a label and counts its values. Never raises, like `read_image_window`.

    Args:
        image: with whose pixels the label should agree.
    """
    try:
        values, valid, scene = read_label_region(Path(label), region)
        there = values[valid]
        found, counts = count_classes(there, "The label")
    except LabelError as error:
        return FileFacts(error.kind, error.what)
    except UserError as error:
        return _failed(label, error)
    about: dict[str, Any] = {"width": region.size[0], "height": region.size[1], "mode": scene.band_types[0]}
    about |= {"digest": _digest(values), "values": found, "counts": counts, "small": small_borders(values)}
    try:
        difference = mismatch(Path(image), Path(label))
    except UserError:  # of the image, which is reported with the image
        difference = ""
    return FileFacts("scene_mismatch" if difference else "", difference, **about)


def _failed(path: str, error: UserError, **about: Any) -> FileFacts:
    """The facts about a file of which no window, or not this one, can be read."""
    if not Path(path).exists():
        return FileFacts("missing", did_you_mean(path).strip())
    message = str(error)
    kinds = {
        "its window has": "window_outside",
        "holds the value": "not_class_numbers",
        "a label has one band": "not_class_numbers",
        "compressed in pieces": "unreadable",
        "pip install": "unreadable",
    }
    kind = next((kind for words, kind in kinds.items() if words in message), "damaged")
    return FileFacts(kind, _clause(path, error), **about)


def _clause(path: str, error: UserError) -> str:
    return str(error).removeprefix(f"{path} ").rstrip(".")


def _digest(values: np.ndarray) -> int:
    """Of the pixels; 0 if all are equal, as in windows of water or without data."""
    return digest_of(values.tobytes()) if values.min() != values.max() else 0
