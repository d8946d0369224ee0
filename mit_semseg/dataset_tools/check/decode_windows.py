"""A window of a scene or of its label, described as a file of its own. Only its tiles are read."""

from typing import Any

import numpy as np
from PIL import Image

from ...data.bands import BandSelection
from ...data.label_diagnosis import count_classes
from ...data.label_files import LARGEST, LabelError
from ...data.scene_pairs import Region, check_inside, difference, kept_label, kept_scene
from ...data.scenes import DamagedSceneError, ImpossibleLabelError, LabelScene, Raster, Scene
from ...errors import UserError
from .alignment import small_borders, small_gray
from .decode import FileFacts, digest_of, why_unreadable
from .decode_bands import describe_bands, kind_of
from .ground import Ground, ground_of


def read_image_window(path: str, region: Region, selection: BandSelection | None) -> FileFacts:
    """Reads and decodes a window of a scene. Never raises, whatever the file is or holds."""
    if unusable := why_unreadable(path):
        return unusable
    try:
        raster = kept_scene(path, rgb=selection is None)
    except UserError as error:
        kind = "needs_bands" if "DATASET.bands" in str(error) else kind_of(str(error))
        return FileFacts(kind, _without_path(error, path))
    if outside := _outside(raster, region):
        return outside
    about = _size(region) | {"mode": raster.form}
    try:
        if isinstance(raster, Scene):
            pixels, valid = raster.read(*region)
            about |= {"digest": _digest(pixels, ~valid), "empty": 1 - float(valid.mean())}
            return FileFacts(**about, small=small_gray(Image.fromarray(pixels)))
        assert selection is not None
        found, valid = raster.select(*region, selection)
        hidden = ~valid if found.without_data is None else ~valid | found.without_data
        about |= {"digest": _digest(found.values, hidden)}
        return FileFacts(**about, **describe_bands(found, hidden, selection))
    except DamagedSceneError as error:
        return FileFacts("damaged", error.reason, places=error.places)
    except UserError as error:
        return FileFacts("band_missing", _without_path(error, path), **about)
    except MemoryError:
        return FileFacts("bomb", "does not fit into memory")


def read_label_window(path: str, region: Region) -> FileFacts:
    """Reads and decodes a window of a label and counts its values. Never raises, like `read_image_window`."""
    if unusable := why_unreadable(path):
        return unusable
    try:
        raster = kept_label(path)
    except UserError as error:
        kind = "label_mode" if "but a label has one band" in str(error) else kind_of(str(error))
        return FileFacts(kind, _without_path(error, path))
    if outside := _outside(raster, region):
        return outside
    about = _size(region) | {"mode": raster.form}
    try:
        values, valid = raster.read(*region)
        there = values if valid.all() else values[valid][None]
        found, counts = count_classes(there, "The label")
    except DamagedSceneError as error:
        return FileFacts("damaged", error.reason, places=error.places)
    except ImpossibleLabelError as error:
        return FileFacts("label_impossible", error.what, **about)
    except LabelError as error:
        return FileFacts(error.kind, error.what, **about)
    except MemoryError:
        return FileFacts("bomb", "does not fit into memory")
    about |= {"values": found, "counts": counts, "digest": _digest(values, ~valid)}
    return FileFacts(**about, small=small_borders(values), nodata=_nodata(raster, valid))


def compare_scenes(image: str, label: str, selection: BandSelection | None) -> tuple[str, str]:
    """How a label differs from its scene, whose windows were both read: a kind of problem and a clause."""
    scene, of_label = kept_scene(image, rgb=selection is None), kept_label(label)
    if what := difference(scene, of_label):
        sizes = (scene.width, scene.height), (of_label.width, of_label.height)
        return "misplaced" if sizes[0] == sizes[1] else "size_mismatch", what
    return "", ""


def ground_of_window(image: str, region: Region, selection: BandSelection | None) -> Ground:
    """The ground that a window shows. It could be read before."""
    return ground_of(kept_scene(image, rgb=selection is None), region)


def _outside(raster: Raster, region: Region) -> FileFacts | None:
    try:
        check_inside(region, raster)
    except UserError as error:
        return FileFacts("outside", _without_path(error, raster.path).split(". ")[0])
    return None


def _size(region: Region) -> dict[str, Any]:
    (top, bottom), (left, right) = region
    return {"width": right - left, "height": bottom - top}


def _digest(values: np.ndarray, hidden: np.ndarray) -> int:
    """Of the values; 0 for a window with a single one, since others are equal without being copies."""
    if hidden.all() or (values == values[:1, :1]).all():
        return 0
    return digest_of(values.tobytes())


def _nodata(raster: LabelScene, valid: np.ndarray) -> int:
    """The value for no data that occurs, or -1."""
    value = raster.nodata
    if value is None or valid.all() or not float(value).is_integer() or not 0 <= value <= LARGEST:
        return -1
    return int(value)


def _without_path(error: UserError, path: str) -> str:
    return str(error).removeprefix(f"{path} ").strip()
