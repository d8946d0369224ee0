"""Files with bands in every form that tests read."""

import numpy as np
import pytest

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

CHUNKY = {"planarconfig": "contig", "photometric": "minisblack"}
PLANAR = {"planarconfig": "separate", "photometric": "minisblack"}
FORMS = {
    "stripped": CHUNKY | {"rowsperstrip": 7},
    "tiled": CHUNKY | {"tile": (16, 32)},
    "deflate": CHUNKY | {"tile": (16, 16), "compression": "zlib", "predictor": True},
    "lzw": CHUNKY | {"compression": "lzw"},
    "zstd": CHUNKY | {"compression": "zstd"},
    "packbits": CHUNKY | {"compression": "packbits"},
    "planar": PLANAR | {"rowsperstrip": 5},
    "planar tiled lzw": PLANAR | {"tile": (32, 16), "compression": "lzw"},
    "BigTIFF": CHUNKY | {"bigtiff": True, "tile": (16, 16), "compression": "zlib"},
    "big-endian": CHUNKY | {"byteorder": ">"},
    "pages": {"photometric": "minisblack"},
    "ImageJ": {"imagej": True, "metadata": {"axes": "CYX"}},
}


def values_of(dtype, shape=(37, 45, 5), seed=0):
    """An array of random values of a type, over most of its range."""
    rng = np.random.Generator(np.random.Philox(seed))
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(1, 50, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def write_tiff(path, values, form="stripped", nodata=None):
    """Write values (H, W, bands)."""
    options = dict(FORMS[form])
    if values.shape[2] == 1:
        options.pop("planarconfig", None)
    chunky = options.get("planarconfig") == "contig"
    if nodata is not None:
        options["extratags"] = [(42113, "s", 0, str(nodata), True)]
    tifffile.imwrite(path, values if chunky else np.squeeze(values.transpose(2, 0, 1)), **options)
    return path


def imagecodecs_png(values):
    """The bytes of a PNG with these values, of 8 or 16 bits."""
    from imagecodecs import png_encode

    return png_encode(values)
