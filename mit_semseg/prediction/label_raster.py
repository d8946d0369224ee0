"""The labels of a scene as a GeoTIFF in tiles, written while they are made."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.classes import ClassTable
from ..data.scenes import INSTALL, Scene
from ..inference.pictures import MARK
from ..inference.scene import STEP
from ..runtime.packages import require

_TILE = STEP  # side of the file's tiles; a strip of the scene has whole tiles
_MOST_SHOWN = 2048  # pixels of the longer side of the overview


class LabelRaster:
    """Writes labels as they are made, in blocks of any order, and keeps an overview and the class counts.

    The value k + 1 stands for class k, and 0 for pixels of the scene without data. The file has the scene's
    transform and reference system, a colour table for up to 255 classes, and the names of the classes in its
    metadata. A tile is written once, when its last block is there, so only some tiles are in memory.

    Args:
        path: of the file; its folder exists.
        overview: whether to keep every `step`-th label.
    """

    def __init__(self, path: Path, scene: Scene, table: ClassTable, *, overview: bool) -> None:
        rasterio = require("rasterio", "A GeoTIFF", INSTALL)
        self._scene, self._table = scene, table
        self._dtype = np.uint8 if len(table.names) < 256 else np.uint16
        self._lock = threading.Lock()
        self._tiles: dict[tuple[int, int], _Tile] = {}
        self.counts = np.zeros(len(table.names) + 1, np.int64)
        """Pixels of each value."""
        self.step = -(-max(scene.height, scene.width) // _MOST_SHOWN)
        shape = -(-scene.height // self.step), -(-scene.width // self.step)
        self.overview = np.full(shape if overview else (0, 0), -1, np.int32)
        """Classes, -1 for pixels without data."""
        self._file: Any = rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=scene.width,
            height=scene.height,
            count=1,
            dtype=self._dtype,
            crs=scene.crs,
            transform=scene.transform,
            nodata=0,
            tiled=True,
            blockxsize=_TILE,
            blockysize=_TILE,
            compress="deflate",
            BIGTIFF="IF_SAFER",
        )
        try:
            self._describe()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "LabelRaster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._scene.limited_cache():
            self._file.close()

    def add(self, rows: slice, columns: slice, classes: NDArray[np.integer]) -> None:
        """Add a block of classes. Blocks do not overlap, and none crosses a multiple of `STEP` columns."""
        left = columns.start // _TILE * _TILE
        with self._lock:
            for top in range(rows.start // _TILE * _TILE, rows.stop, _TILE):
                if (top, left) not in self._tiles:
                    self._tiles[top, left] = self._new_tile(top, left)
                if self._tiles[top, left].add(rows, columns, classes):
                    self._write(self._tiles.pop((top, left)))

    def _new_tile(self, top: int, left: int) -> "_Tile":
        shape = min(_TILE, self._scene.height - top), min(_TILE, self._scene.width - left)
        return _Tile(top, left, np.empty(shape, self._dtype))

    def _write(self, tile: "_Tile") -> None:
        top, left, values = tile.top, tile.left, tile.values
        bottom, right = top + values.shape[0], left + values.shape[1]
        values[~self._scene.valid((top, bottom), (left, right))] = 0
        self.counts += np.bincount(values.ravel(), minlength=len(self.counts))
        if self.overview.size:
            y, x = -top % self.step, -left % self.step
            part = values[y :: self.step, x :: self.step].astype(np.int32) - 1
            first = (top + y) // self.step, (left + x) // self.step
            self.overview[first[0] : first[0] + len(part), first[1] : first[1] + part.shape[1]] = part
        with self._scene.limited_cache():
            self._file.write(values, 1, window=((top, bottom), (left, right)))

    def _describe(self) -> None:
        table = self._table
        self._file.update_tags(TIFFTAG_SOFTWARE=MARK)
        names = {f"CLASS_{k}": name for k, name in enumerate(table.names, 1)}
        self._file.update_tags(1, CLASS_0="no data", **names)
        self._file.set_band_description(1, "classes")
        if self._dtype == np.uint8:
            colors = {k: (*map(int, color), 255) for k, color in enumerate(table.colors, 1)}
            self._file.write_colormap(1, {0: (0, 0, 0, 0), **colors})


class _Tile:
    """The values of a tile, and how many of them are missing."""

    def __init__(self, top: int, left: int, values: NDArray[Any]) -> None:
        self.top, self.left, self.values = top, left, values
        self._missing = values.size

    def add(self, rows: slice, columns: slice, classes: NDArray[np.integer]) -> bool:
        """Add what a block in these columns has of the tile. Returns whether all values are known."""
        first = max(rows.start, self.top)
        last = min(rows.stop, self.top + len(self.values))
        inside = slice(columns.start - self.left, columns.stop - self.left)
        target = self.values[first - self.top : last - self.top, inside]
        part = classes[first - rows.start : last - rows.start]
        np.add(part, 1, out=target, dtype=target.dtype, casting="unsafe")
        self._missing -= target.size
        return self._missing == 0
