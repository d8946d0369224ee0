"""Windows of scenes and their labels, for training and validation. A window reads only its tiles."""

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .band_images import BandImage
from .bands import Bands, BandSelection, Pixels
from .label_coding import LabelCoding
from .labels import standard_where
from .records import Record
from .scenes import LabelScene, Raster, Scene, SceneError, Span

_OPEN = 16  # pairs that a process keeps open
_ALIKE = 1e-3  # of a pixel; transforms that differ by less are equal


Name = str | Path  # of a file


class ScenePair(NamedTuple):
    """A scene and its label, open, with the same pixels."""

    image: Raster
    label: LabelScene


class Region(NamedTuple):
    """The place of a window, in pixels."""

    rows: Span
    columns: Span


def region_of(record: Record) -> Region:
    """The place of a record that is a window."""
    return Region((record.top, record.top + record.height), (record.left, record.left + record.width))


def read_region(
    image: Name, label: Name, region: Region, coding: LabelCoding, bands: Bands | None
) -> tuple[BandImage, np.ndarray]:
    """A window of a scene, without bands (h, w, 3) uint8, and its label, (h, w).

    The label has standard values; pixels without data, in either file, are unlabelled.

    Raises: UserError if a file cannot be used, the two do not match, or the window is not inside of them.
    """
    scene, label_scene = _open_pair(image, label, bands, os.getpid())
    check_inside(region, scene)
    pixels, valid = scene.read(*region)
    values = _label(label_scene, region, coding)
    values[~valid] = 0
    return BandImage(pixels, None if valid.all() else ~valid), values


def read_bands_region(image: Name, region: Region, selection: BandSelection) -> Pixels:
    """The selected bands of a scene's window, as `BandSelection.read` gives those of a file.

    Raises: UserError if the file cannot be used, or does not have the bands or the window.
    """
    scene = _open_raster(image, os.getpid())
    check_inside(region, scene)
    return scene.select(region.rows, region.columns, selection)[0]


def window_values(label: Name, region: Region) -> np.ndarray:
    """A label's window as the file has it, (h, w); if some pixels have no data, the others, (1, n)."""
    scene = _open_label(label, os.getpid())
    check_inside(region, scene)
    values, valid = scene.read(*region)
    return values if valid.all() else values[valid][None]


def open_scenes(image: Name, label: Name) -> ScenePair:
    """A scene, whatever its bands, and its label.

    Raises: UserError if a file cannot be used, or if they differ in size, transform or reference system.
    """
    return _matching(ScenePair(Raster(image), LabelScene(label)))


def kept_scene(image: Name, *, rgb: bool) -> Raster:
    """A scene that stays open in this process; with ``rgb`` a `Scene` of 8-bit RGB, else whatever its bands.

    Raises: UserError if it cannot be used.
    """
    return _open_rgb(image, os.getpid()) if rgb else _open_raster(image, os.getpid())


def kept_label(label: Name) -> LabelScene:
    """A label that stays open in this process. Raises: UserError if it cannot be used."""
    return _open_label(label, os.getpid())


# Each process keeps some files open, because a training reads them again and again.
# A forked process must not share open files, so the number of the process is part of the key.


@lru_cache(maxsize=_OPEN)
def _open_pair(image: Name, label: Name, bands: Bands | None, process: int) -> tuple[Scene, LabelScene]:
    scene, labels = Scene(image, bands), _open_label(label, process)
    _matching(ScenePair(scene, labels))
    return scene, labels


@lru_cache(maxsize=_OPEN)
def _open_rgb(image: Name, process: int) -> Scene:
    return Scene(image)


@lru_cache(maxsize=_OPEN)
def _open_raster(image: Name, process: int) -> Raster:
    return Raster(image)


@lru_cache(maxsize=_OPEN)
def _open_label(label: Name, process: int) -> LabelScene:
    return LabelScene(label)


def _matching(pair: ScenePair) -> ScenePair:
    """The pair. Raises: SceneError if its files differ in size, transform or reference system."""
    if what := difference(*pair):
        raise SceneError(f"{pair.label.path} does not match its image {pair.image.path}: {what}.")
    return pair


def difference(image: Raster, label: LabelScene) -> str:
    """How a label differs from its image, as a clause; "" if it has the same pixels."""
    sizes = [f"{each.width} x {each.height}" for each in (label, image)]
    if sizes[0] != sizes[1]:
        return f"it has {sizes[0]} pixels, the image {sizes[1]}"
    if not (image.georeferenced and label.georeferenced):  # one of them is a plain TIFF
        return ""
    if image.crs is not None and label.crs is not None and image.crs != label.crs:
        return (
            f"its reference system is {name_of(label)}, that of the image {name_of(image)}. Warp it onto the "
            f"image: rio warp --like IMAGE --resampling nearest"
        )
    shift = _largest_shift(image, label)
    if shift > _ALIKE:
        return (
            f"its pixels are shifted by up to {shift:.4g} pixels (their transforms differ). Warp it onto the "
            f"image: rio warp --like IMAGE --resampling nearest"
        )
    return ""


def _largest_shift(image: Raster, label: LabelScene) -> float:
    """The largest distance between the same corner in both files, in pixels."""
    a, b = (np.array(tuple(each.transform)[:9], float).reshape(3, 3) for each in (image, label))
    corners = np.array([[0, image.width, 0, image.width], [0, 0, image.height, image.height], [1, 1, 1, 1]])
    return float(np.abs(np.linalg.solve(b, a @ corners) - corners).max())


def name_of(raster: Raster) -> str:
    """The reference system of a file, for people."""
    if raster.crs is None:
        return "none"
    return str(raster.crs.to_string()) if raster.crs.to_epsg() else str(raster.crs.to_wkt())[:80]


def check_inside(region: Region, scene: Raster) -> None:
    """Raises: UserError if a window leaves its scene."""
    (top, bottom), (left, right) = region
    if bottom > scene.height or right > scene.width:
        raise UserError(
            f"{scene.path} has {scene.width} x {scene.height} pixels, but its window has the rows {top} to "
            f"{bottom - 1} and the columns {left} to {right - 1}. Write the list again with "
            "mit-semseg data scenes."
        )


def _label(scene: LabelScene, region: Region, coding: LabelCoding) -> np.ndarray:
    values, valid = scene.read(*region)
    return np.array(standard_where(valid, values, scene.path, coding))
