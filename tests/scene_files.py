"""Synthetic scenes: fields in three colours, with roads, as GeoTIFFs with their labels."""

import warnings

import numpy as np

UTM, GEOGRAPHIC = "EPSG:32632", "EPSG:4326"
COLORS = np.array([[0, 0, 0], [200, 60, 40], [60, 180, 60], [40, 80, 200]], np.uint8)  # of the tiny dataset
ORIGIN, METRES = (500_000.0, 5_300_000.0), 0.2  # of the left upper corner in UTM; a pixel's side


def landscape(height, width, seed=0, *, fields=48):
    """A label of Voronoi cells with the values 1 to 3, and a noisy picture of it."""
    rng = np.random.Generator(np.random.Philox(seed))
    places = rng.uniform(0, 1, (max(4, height * width // fields**2), 2)) * (height, width)
    values = rng.integers(1, 4, len(places))
    rows, columns = np.mgrid[:height, :width]
    nearest = np.full((height, width), np.inf)
    label = np.zeros((height, width), np.uint8)
    for (y, x), value in zip(places, values, strict=True):
        distance = np.hypot(rows - y, columns - x)
        label[distance < nearest] = value
        nearest = np.minimum(nearest, distance)
    noise = rng.integers(-25, 26, (height, width, 3))
    return label, np.clip(COLORS[label] + noise, 0, 255).astype(np.uint8)


def transform_of(crs=UTM, *, column=0, row=0):
    from rasterio.transform import from_origin

    step = METRES if crs != GEOGRAPHIC else 1e-5
    left, top = ORIGIN if crs != GEOGRAPHIC else (9.0, 47.85)
    return from_origin(left + column * step, top - row * step, step, step)


def write_scene(path, pixels, *, crs=UTM, transform=None, **profile):
    """Write (H, W) or (H, W, bands) as a GeoTIFF in tiles; ``transform`` False writes no coordinates."""
    import rasterio.errors

    values = pixels[..., None] if pixels.ndim == 2 else pixels
    if transform is not False:
        profile |= {"crs": crs, "transform": transform or transform_of(crs)}
    if values.shape[2] == 3 and values.dtype == np.uint8:
        profile.setdefault("photometric", "RGB")
    settings = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", **profile}
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = values.shape
    size = {"width": width, "height": height, "count": count, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **size, **settings) as file:
            file.write(values.transpose(2, 0, 1))
    return path


def damage_tile(path, column, row):
    """Destroy a tile of a file."""
    import rasterio

    with rasterio.open(path) as file:
        offset = int(file.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset + 8 : offset + 60] = bytes(52)
    path.write_bytes(data)
