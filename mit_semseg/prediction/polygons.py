"""The areas of a label raster as polygons, in a GeoJSON or GeoPackage file."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.scenes import INSTALL, limited_cache
from ..runtime.packages import require

_DRIVERS = {"geojson": "GeoJSON", "gpkg": "GPKG"}  # GDAL's names of the formats
_LAYER = "classes"
_OPTIONS: dict[str, dict[str, str]] = {"geojson": {"RFC7946": "YES"}, "gpkg": {}}


class _Areas(NamedTuple):
    """Polygons with their values.

    Attributes:
        shapes: of shapely, in the coordinates of the raster.
        values: of the pixels in each, (n,).
        sizes: square metres of each, or pixels in a raster without a reference system; (n,).
    """

    shapes: np.ndarray
    values: np.ndarray
    sizes: np.ndarray


def write_polygons(raster: Path, path: Path, output: str, names: Sequence[str]) -> None:
    """Write a polygon for each connected area of one class, with its outline along the pixels.

    Pixels are connected by their sides. Each polygon has the fields ``class`` (the value in the raster),
    ``name``, and ``area_m2``, or ``area_px`` without a reference system. In a geographic system, the area is
    that in Lambert's azimuthal equal-area projection around the raster's centre. GeoJSON has longitude and
    latitude, as RFC 7946 says, and GeoPackage the system of the raster.

    The polygons are held in memory.

    Args:
        raster: a file of `LabelRaster`, closed.
        path: of the file to write.
        output: `geojson` or `gpkg`.
        names: of the classes.
    """
    rasterio = require("rasterio", "Polygons", INSTALL)
    shapely = require("shapely", "Polygons", INSTALL)
    raw = require("pyogrio.raw", "Polygons", INSTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        file = rasterio.open(raster)
    with file, limited_cache():
        areas = _areas(file)
        crs = file.crs
    fields = {
        "class": areas.values.astype(np.int32),
        "name": np.array([names[value - 1] for value in areas.values], object),
        "area_px" if crs is None else "area_m2": areas.sizes,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a reference system that is missing, and of the file's extension
        raw.write(
            path,
            shapely.to_wkb(areas.shapes),
            list(fields.values()),
            list(fields),
            layer=_LAYER,
            driver=_DRIVERS[output],
            geometry_type="Polygon",
            crs=crs.to_wkt() if crs is not None else None,
            layer_options=_OPTIONS[output] if crs is not None else {},
        )


def _areas(file: Any) -> _Areas:
    shapely = require("shapely", "Polygons", INSTALL)
    geometry = require("shapely.geometry", "Polygons", INSTALL)
    found = list(_found(file))
    values = np.array([value for _, value in found], np.int64)
    shapes = np.array([geometry.shape(outline) for outline, _ in found], object)
    if file.crs is not None and file.crs.is_geographic:
        longitude, latitude = file.lnglat()
        equal_area = f"+proj=laea +lon_0={longitude} +lat_0={latitude} +datum=WGS84 +units=m"
        warp = require("rasterio.warp", "Polygons", INSTALL)
        flat = warp.transform_geom(file.crs, equal_area, [outline for outline, _ in found])
        return _Areas(shapes, values, shapely.area(np.array([geometry.shape(each) for each in flat], object)))
    if file.crs is not None:
        unit = file.crs.linear_units_factor[1]  # metres
    else:
        unit = abs(file.transform.determinant) ** -0.5  # pixels
    return _Areas(shapes, values, shapely.area(shapes) * unit**2)


def _found(file: Any) -> Iterator[tuple[dict[str, Any], int]]:
    """The outline of each area, as GeoJSON, and its value."""
    features = require("rasterio.features", "Polygons", INSTALL)
    band = require("rasterio", "Polygons", INSTALL).band(file, 1)
    for outline, value in features.shapes(band, connectivity=4, transform=file.transform):
        if value:  # 0 is no data
            yield outline, int(value)
