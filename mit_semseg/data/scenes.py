"""Scenes: images with coordinates, or too large for memory. GDAL reads windows of them; see `scene_files`."""

import logging
import threading
import warnings
from collections.abc import Iterator
from os import PathLike
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..errors import UserError
from ..runtime.packages import require
from .bands import Bands, BandSelection, Pixels
from .files import naming
from .remote import address_of

T = TypeVar("T")

Span = tuple[int, int]  # first row or column, and the one after the last

INSTALL = "rasterio pyogrio shapely"
# Bytes of decoded tiles that GDAL keeps, whose default is a share of the machine's memory: what neighbouring
# windows share. A strip crosses all windows of a row, so more are kept.
_CACHE_BYTES = 16 * 2**20
_CACHE_OF_STRIPS = 48 * 2**20
_LARGEST_BLOCK = 256 * 2**20  # bytes, of a decoded tile or strip
_READ = 1024  # side in pixels of the windows that an overview is read in
_SHOWN = 3  # damaged tiles that a message names
_RGB = ("red", "green", "blue")


LOCAL_ONLY = "Windows of scenes are read from files on the disk: copy the scene there."
"""What to do about the address of a scene, whose windows would need thousands of requests."""


class SceneError(UserError):
    """A scene that cannot be used."""


class DamagedSceneError(SceneError):
    """Tiles of a scene that cannot be decoded.

    Attributes:
        path: of the file.
        places: the rows and columns of each tile, in words; empty if no tile could be found.
        reason: of the decoder.
    """

    def __init__(self, path: str, places: tuple[str, ...], reason: str) -> None:
        self.path, self.places, self.reason = path, places, reason
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        where = f"is damaged in {len(places)} of its tiles: {'; '.join(places[:_SHOWN])}{more}"
        super().__init__(
            f"{path} {where if places else 'cannot be read'} ({reason}). Fetch it again or drop it."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.places, self.reason)


class ImpossibleLabelError(SceneError):
    """A label that holds a value that cannot be a class number.

    Attributes:
        path: of the file.
        what: the value and its place, in words.
    """

    def __init__(self, path: str, value: int, row: int, column: int) -> None:
        self.path = path
        self._arguments = path, value, row, column
        self.what = f"the value {value} at row {row}, column {column}"
        super().__init__(
            f"{path} holds {self.what}, but class numbers are 0 to 65535. If it means unlabelled, say so in "
            f"the file: rio edit-info --nodata {value}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


class Window(NamedTuple):
    """A part of a scene.

    Attributes:
        pixels: (h, w, 3) uint8; with bands (h, w, C) float32 from 0 to 1.
        valid: (h, w) bool; False where the scene has no data.
    """

    pixels: np.ndarray
    valid: np.ndarray


class Raster:
    """An open file that GDAL reads. Several threads may read it; they wait for each other.

    Attributes:
        path: of the file.
        height, width: in pixels.
        crs: the coordinate reference system, of rasterio; None if the file names none.
        transform: from (column, row) to coordinates; the identity for a file without a georeference.

    Raises: SceneError if the file cannot be used; UserError if rasterio is missing.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        if address_of(path):
            raise SceneError(f"{path} is an address. {LOCAL_ONLY}")
        self.path = str(path)
        self._lock = threading.Lock()
        self._rasterio = rasterio = require("rasterio", f"{path}, a GeoTIFF or a very large TIFF,", INSTALL)
        logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # what matters is raised
        try:
            with naming(path), limited_cache(), warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                self._file = rasterio.open(path)
        except UserError as error:
            raise SceneError(str(error)) from error.__cause__
        self.height: int = self._file.height
        self.width: int = self._file.width
        self.crs: Any = self._file.crs
        self.transform: Any = self._file.transform
        flags = [flag.name for of_band in self._file.mask_flag_enums for flag in of_band]
        self._has_mask = any(name != "all_valid" for name in flags)
        self._check_blocks()

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def georeferenced(self) -> bool:
        """Whether the file has a reference system or a transform."""
        return self.crs is not None or not self.transform.is_identity

    @property
    def form(self) -> str:
        """The number and type of the bands, such as 12 x uint16."""
        return f"{self._file.count} x {self._file.dtypes[0]}"

    @property
    def nodata(self) -> float | None:
        """The value that stands for no data, by the file."""
        value: float | None = self._file.nodata
        return value

    def damage(self, reason: str, rows: Span | None = None, columns: Span | None = None) -> SceneError:
        """The error that names the damaged tiles of a window, or of the whole file.

        Args:
            reason: why the decoder failed.
        """
        rows, columns = rows or (0, self.height), columns or (0, self.width)
        return DamagedSceneError(self.path, tuple(self._damaged(rows, columns)), reason)

    def select(
        self, rows: Span, columns: Span, selection: BandSelection, shape: tuple[int, int] | None = None
    ) -> tuple[Pixels, np.ndarray]:
        """The selected bands of a window, and where the file's mask says that there are data, (h, w) bool.

        All bands are read, because GDAL decodes them together.

        Raises: DamagedSceneError that names the damaged tiles; SceneError if the file lacks the bands.
        """
        values, valid = self._read_bands(list(range(1, self._file.count + 1)), rows, columns, shape)
        try:
            pixels = selection.select(values.transpose(1, 2, 0), self.path, self._file.nodata)
        except UserError as error:
            raise SceneError(str(error)) from None
        return pixels, valid

    def _read_bands(
        self, bands: list[int], rows: Span, columns: Span, shape: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The values of some bands, (bands, h, w), and where the file has data, (h, w) bool.

        Args:
            shape: to read at reduced size; None: (h, w) of the window.

        Raises: DamagedSceneError that names the damaged tiles of the window.
        """
        window = (rows, columns)
        shape = shape or (rows[1] - rows[0], columns[1] - columns[0])
        try:
            with self._lock, self.limited_cache():
                values = self._file.read(bands, window=window, out_shape=(len(bands), *shape))
                valid = np.ones(shape, bool)
                if self._has_mask:
                    valid = self._file.dataset_mask(window=window, out_shape=shape) != 0
        except self._rasterio.errors.RasterioError as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise self.damage(reason, rows, columns) from error
        return values, valid

    def limited_cache(self) -> Any:
        """`limited_cache` for this file, and for one that is written in turns with it."""
        strips = self._file.block_shapes[0][1] == self.width
        return limited_cache(_CACHE_OF_STRIPS if strips else _CACHE_BYTES)

    def _check_blocks(self) -> None:
        """Raises: SceneError if the file has to be decoded in pieces that do not fit into memory."""
        height, width = self._file.block_shapes[0]
        size = height * width * self._file.count * np.dtype(self._file.dtypes[0]).itemsize
        if size > _LARGEST_BLOCK:
            raise SceneError(
                f"{self.path} is compressed in pieces of {width} x {height} pixels, so no window of it can "
                f"be read alone. Write it in tiles: rio convert {self.path} tiled.tif --co TILED=YES"
            )

    def _damaged(self, rows: Span, columns: Span) -> Iterator[str]:
        """The place of each tile or strip of a window that cannot be decoded."""
        for _, window in self._file.block_windows(1):
            (top, bottom), (left, right) = window.toranges()
            if bottom <= rows[0] or top >= rows[1] or right <= columns[0] or left >= columns[1]:
                continue
            try:
                with self._lock, self.limited_cache():
                    self._file.read(window=window)
            except self._rasterio.errors.RasterioError:
                yield f"rows {top} to {bottom - 1}, columns {left} to {right - 1}"


class Scene(Raster):
    """An image of which windows are read.

    Without ``bands``, gray and palette scenes give RGB, as images do that Pillow decodes. Of four bands the
    first three are taken, and of more those that the file calls red, green and blue.

    Args:
        bands: to read; None for 8-bit RGB.

    Raises: as `Raster`.
    """

    def __init__(self, path: str | PathLike[str], bands: Bands | None = None) -> None:
        super().__init__(path)
        self.bands = bands
        self._rgb = self._rgb_bands() if bands is None else []
        self._palette = self._find_palette() if bands is None else None

    def read(self, rows: Span, columns: Span) -> Window:
        """A window. Raises: DamagedSceneError that names the damaged tiles that it needs."""
        return self._read(rows, columns, None)

    def valid(self, rows: Span, columns: Span) -> np.ndarray:
        """Where a window has data, (h, w) bool. Raises: as `read`."""
        if not self._has_mask and (self.bands is None or self._never_absent()):
            return np.ones((rows[1] - rows[0], columns[1] - columns[0]), bool)
        return self.read(rows, columns).valid

    def overview(self, step: int) -> np.ndarray:
        """Every ``step``-th pixel of every ``step``-th row, or its neighbour, as a picture (h, w, 3) uint8.

        Raises: as `read`.
        """
        height, width = -(-self.height // step), -(-self.width // step)
        picture = np.empty((height, width, 3), np.uint8)
        side = max(1, _READ // step)  # small windows, because a row of tiles may not fit into memory
        for top in range(0, height, side):
            for left in range(0, width, side):
                bottom, right = min(top + side, height), min(left + side, width)
                rows = top * step, min(bottom * step, self.height)
                columns = left * step, min(right * step, self.width)
                found = self._read(rows, columns, (bottom - top, right - left))
                bands = self.bands
                shown = found.pixels if bands is None else bands.picture(found.pixels, ~found.valid)
                picture[top:bottom, left:right] = shown
        return picture

    def _read(self, rows: Span, columns: Span, shape: tuple[int, int] | None) -> Window:
        if self.bands is not None:
            return self._of_bands(rows, columns, shape, self.bands)
        values, valid = self._read_bands(self._rgb, rows, columns, shape)
        if self._palette is not None:
            return Window(self._palette[values[0]], valid)
        if len(values) == 1:
            values = np.repeat(values, 3, axis=0)
        return Window(np.ascontiguousarray(values.transpose(1, 2, 0)), valid)

    def _of_bands(self, rows: Span, columns: Span, shape: tuple[int, int] | None, bands: Bands) -> Window:
        pixels, valid = self.select(rows, columns, bands, shape)
        if pixels.without_data is not None:
            valid = valid & ~pixels.without_data
        return Window(bands.unit(pixels), valid)

    def _never_absent(self) -> bool:
        """Whether no value can stand for a missing one."""
        assert self.bands is not None
        return not self.bands.nodata and all(np.dtype(each).kind in "iu" for each in self._file.dtypes)

    def _rgb_bands(self) -> list[int]:
        """The numbers of the bands to read, from 1."""
        file = self._file
        if any(dtype != "uint8" for dtype in file.dtypes):
            raise SceneError(
                f"{self.path} has bands of type {', '.join(sorted(set(file.dtypes)))}, but the model "
                "takes 8-bit RGB. Train it with DATASET.bands, or convert it: rio convert --dtype uint8"
            )
        if file.count <= 2:
            return [1]
        names = [color.name for color in file.colorinterp]
        if set(_RGB) <= set(names):
            return [names.index(name) + 1 for name in _RGB]
        if file.count <= 4:
            return [1, 2, 3]
        raise SceneError(
            f"{self.path} has {file.count} bands and does not say which are red, green and blue. Train a "
            "model with DATASET.bands, or save those three: rio stack --bidx R,G,B"
        )

    def _find_palette(self) -> np.ndarray | None:
        """The colours of a palette, (256, 3) uint8; None without one."""
        if len(self._rgb) > 1 or self._file.colorinterp[0].name != "palette":
            return None
        table = np.zeros((256, 3), np.uint8)
        for value, color in self._file.colormap(1).items():
            table[value] = color[:3]
        return table


class LabelScene(Raster):
    """The label of a scene, of which windows are read: one band of integers with class numbers.

    Raises: as `Raster`.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(path)
        count, dtype = self._file.count, self._file.dtypes[0]
        if count != 1 or np.dtype(dtype).kind not in "iu":
            raise SceneError(
                f"{path} has {count} band{'s' * (count > 1)} of type {dtype}, but a label has one band of "
                "integers, the class numbers. Convert it: rio convert --dtype uint8"
            )

    def read(self, rows: Span, columns: Span) -> tuple[np.ndarray, np.ndarray]:
        """The values of a window, (h, w) uint8 or uint16, and where it has data, (h, w) bool.

        Raises: DamagedSceneError that names the damaged tiles; ImpossibleLabelError for a value that is not a
            class number.
        """
        bands, valid = self._read_bands([1], rows, columns)
        values = bands[0]
        if values.dtype in (np.uint8, np.uint16):
            return values, valid
        values = np.where(valid, values, 0)
        impossible = (values < 0) | (values >= 2**16)
        if impossible.any():
            row, column = divmod(int(impossible.argmax()), values.shape[1])
            value = int(values[row, column])
            raise ImpossibleLabelError(self.path, value, rows[0] + row, columns[0] + column)
        return values.astype(np.uint16), valid

    def classes(self) -> dict[int, str]:
        """The names of the values, if test.py has made the file."""
        tags: dict[str, str] = self._file.tags(1)
        return {
            int(key[6:]): name
            for key, name in tags.items()
            if key.startswith("CLASS_") and key[6:].isdecimal() and int(key[6:])
        }


def limited_cache(size: int = _CACHE_BYTES) -> Any:
    """A context in which GDAL, which reads or writes a file, keeps ``size`` bytes of decoded tiles."""
    return require("rasterio", "A scene", INSTALL).Env(GDAL_CACHEMAX=size)
