"""Reading the values of label files, whatever their format, compression, bits, palette and transparency.

All commands read labels with `values_of`. It refuses a file whose values are not class numbers, or could be
read in two ways, with a `LabelError` that names the kind of problem and its fix. `label_diagnosis` judges the
values.
"""

import numpy as np
from PIL import Image

from ..errors import UserError

LARGEST = 2**16 - 1
"""The largest value of a label."""

_GRAY_STEP = {"L;2": 85, "L;4": 17}  # Pillow multiplies 2- and 4-bit gray by these
_SUBFILE = 254  # TIFF's tag for overviews (1), pages (2) and masks (4)
_PAGE = 2
_GDAL_NODATA = 42113  # TIFF's tag for the value without data
_MOST_DRAWN = 8  # fewer values are never judged as mixed
_FEWEST_MIXED = 4  # values
_MIXED_SHARE = 0.2  # of the values; it was 0 in 470 labels of ADE20K, CamVid and others
_LARGEST_MIXED = 1 / 3  # of the pixels; more is a gradient or noise
_BLOCK = 2**20  # pixels counted at a time, because counting takes 8 bytes a pixel

# Formats that keep every value. AVIF and WebP can be lossless, too, but a file does not reliably say so.
_LOSSLESS = {
    *("PNG", "BMP", "DIB", "FITS", "GIF", "IM", "MSP", "PCX", "DCX", "PPM", "QOI", "SGI", "SUN", "TGA"),
    *("TIFF", "XBM", "XPM"),
}
_LOSSLESS_IN_TIFF = {
    *("raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "tiff_raw_16", "packbits"),
    *("tiff_deflate", "lzma", "zstd"),
}
_NAMES = {"jpeg": "JPEG", "tiff_jpeg": "JPEG", "webp": "WebP", "WEBP": "WebP", "JPEG2000": "JPEG 2000"}
_UNREAD = (  # lossy formats that Pillow does not open by itself, by their first bytes
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    *((b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")),
)

FIXES = {
    "label_lossy": "Export the labels again as PNG, from their source: lossy compression has mixed the "
    "values at the borders of the classes, which cannot be undone.",
    "colors_lossy": "Export the labels again as PNG, from their source. If that is lost, `--unknown-colors "
    "nearest` assigns each colour to its nearest row if it is close, and makes the others unlabelled.",
    "label_mixed": "Export the labels again as PNG, from their source, and resize them without interpolation "
    "(nearest neighbour). If the source is lost, `mit-semseg data prepare folders SOURCE OUT --map "
    '"V:K, ..., *:0"` keeps the values V that you know to be classes, and makes the others unlabelled.',
    "label_pages": "Save each label as a file with one image.",
    "label_rgb": "If its colours stand for classes, `mit-semseg data prepare rgb SOURCE OUT --colors FILE` "
    "turns them into class numbers; FILE is a table with the columns name,red,green,blue.",
    "label_gray_in_rgb": "If the three equal channels hold class numbers, `mit-semseg data prepare folders "
    "SOURCE OUT --one-channel` reads one of them; if they are colours, `mit-semseg data prepare rgb SOURCE "
    "OUT --colors FILE` reads them by a table.",
    "label_float": "`mit-semseg data prepare folders SOURCE OUT` writes whole numbers as 8-bit labels.",
    "label_fraction": "Save the labels again as whole numbers: each value must be a class number.",
    "label_alpha": "`mit-semseg data prepare folders SOURCE OUT` writes labels without alpha channels.",
    "label_mode": "Save the labels as 8- or 16-bit gray PNGs whose values are class numbers.",
}
"""What the user can do, in sentences, by the kind of a `LabelError`."""


class LabelError(UserError):
    """A label file whose values are not class numbers, or could be read in two ways.

    Args:
        where: the file, for the message.
        kind: a key of `FIXES`.
        what: the end of a sentence that begins with the file, without its period.
    """

    def __init__(self, where: str, kind: str, what: str) -> None:
        super().__init__(where, kind, what)  # these are pickled
        self.kind, self.what, self.fix = kind, what, FIXES[kind]
        self.sentence = f"{where} {what}."

    @classmethod
    def of_lossy(cls, where: str, lossy: str) -> "LabelError":
        """The error for a file whose format or compression does not keep every value, see `lossy_format`."""
        return cls(where, "label_lossy", f"is {lossy} changes class numbers")

    def __str__(self) -> str:
        return f"{self.sentence} {self.fix}"


def values_of(
    image: Image.Image, where: str, *, convert: bool = False, one_channel: bool = False
) -> np.ndarray:
    """The values of a label file that Pillow has opened, (H, W) uint8 or uint16.

    Palette images give their indices, whatever their colours and their transparency. 1-bit images give 0 and
    1, and gray of 2 or 4 bits its own values.

    Args:
        convert: also read labels that training refuses although their values are clear: whole numbers in
            floating point, and gray or palette images with the same alpha everywhere.
        one_channel: also read RGB with three equal channels, by taking one of them.

    Raises: LabelError; and errors of many kinds for a damaged file.
    """
    lossy = lossy_format(image)
    if lossy:
        raise LabelError.of_lossy(where, lossy)
    pages = _pages(image)
    if pages > 1:
        raise LabelError(
            where, "label_pages", f"holds {pages} images of one size, each of which may be the label"
        )
    tiles = getattr(image, "tile", None)
    packing = tiles[0].args if tiles else None
    image.load()
    mode = image.mode
    if mode in ("L", "P", "1"):
        values = np.array(image, np.uint8)
        return values // _GRAY_STEP[packing] if isinstance(packing, str) and packing in _GRAY_STEP else values
    if mode == "I" or mode.startswith("I;16"):
        return _whole(np.array(image), where)
    if mode == "F":
        return _from_floats(np.asarray(image), where, convert)
    if mode in ("LA", "PA"):
        return _without_alpha(image, where, convert)
    if mode in ("RGB", "RGBA", "RGBX"):
        return _from_channels(image, where, one_channel)
    raise LabelError(where, "label_mode", f"is a label of mode {mode}")


def nodata_of(image: Image.Image) -> int | None:
    """The value that stands for no data in a label that Pillow has opened, by GDAL's tag; None for none."""
    text = str(getattr(image, "tag_v2", {}).get(_GDAL_NODATA, "")).strip("\0 ")
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and 0 <= value <= LARGEST else None


def require_unmixed(values: np.ndarray, where: str) -> None:
    """Refuse values that compression or interpolation has mixed, in a file that does not say so itself.

    Along a row or a column, a mixed value lies between its two neighbours. In labels as people draw them, no
    value does so in most of its pixels, except in lines of one pixel.

    Args:
        values: (H, W).

    Raises: LabelError
    """
    found, counts = count_values(values)
    if len(found) < _MOST_DRAWN:
        return
    levels = values.astype(np.int32)
    between = np.zeros(levels.shape, bool)
    for view, marks in ((levels, between), (levels.T, between.T)):
        step = np.sign(np.diff(view))
        marks[:, 1:-1] |= step[:, 1:] * step[:, :-1] > 0
    mixed = found[2 * np.bincount(levels[between], minlength=found[-1] + 1)[found] >= counts]
    few = counts[np.isin(found, mixed)].sum() <= _LARGEST_MIXED * values.size
    if few and len(mixed) >= max(_FEWEST_MIXED, _MIXED_SHARE * len(found)):
        raise LabelError(
            where,
            "label_mixed",
            f"holds {len(found)} values, of which {len(mixed)}, such as {mixed[0]}, mostly lie between those "
            f"of their neighbours, as after lossy compression or smooth resizing",
        )


def lossy_format(image: Image.Image) -> str:
    """A clause that names the format of an opened file if it is lossy, or "".

    The caller completes it: "a JPEG file, whose compression" changes class numbers.
    """
    name, compression = str(image.format), str(image.info.get("compression"))
    if name == "TIFF" and compression not in _LOSSLESS_IN_TIFF:
        return f"a TIFF file with {_NAMES.get(compression, compression)} compression, which"
    return "" if name in _LOSSLESS else _clause(_NAMES.get(name, name))


def unread_lossy_format(start: bytes) -> str:
    """`lossy_format` for a file that Pillow cannot open, from its first bytes."""
    for magic, name in _UNREAD:
        if start.startswith(magic) or start[4:].startswith(magic):
            return _clause(name)
    return ""


def count_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of a label, ascending, and the number of pixels of each; both (K,) int64."""
    if values.dtype == np.uint8:
        total = np.array(Image.fromarray(values).histogram(), np.int64)
    else:
        total = np.zeros(LARGEST + 1, np.int64)
        rows = max(1, _BLOCK // max(1, values.shape[1]))
        for top in range(0, values.shape[0], rows):
            total += np.bincount(values[top : top + rows].ravel(), minlength=len(total))
    found = np.flatnonzero(total)
    return found, total[found]


def _pages(image: Image.Image) -> int:
    """The number of images in a file that are as large as the first; overviews and masks do not count."""
    number, pages, size = getattr(image, "n_frames", 1), 1, image.size
    for k in range(1, number):
        image.seek(k)
        kind = getattr(image, "tag_v2", {}).get(_SUBFILE, 0)
        pages += image.size == size and not kind & ~_PAGE
    if number > 1:
        image.seek(0)
    return pages


def _clause(name: str) -> str:
    return f"{'an' if name[0] in 'AEIMX' else 'a'} {name} file, whose compression"


def _whole(values: np.ndarray, where: str) -> np.ndarray:
    low, high = values.min(), values.max()
    if low < 0 or high > LARGEST:
        raise LabelError(
            where, "label_mode", f"holds values from {low:g} to {high:g}; labels go from 0 to {LARGEST}"
        )
    return values.astype(np.uint16)


def _from_floats(values: np.ndarray, where: str, convert: bool) -> np.ndarray:
    other = values[values != np.rint(values)]  # also NaN
    if other.size:
        raise LabelError(where, "label_fraction", f"holds floating-point values such as {other[0]:g}")
    if not convert:
        raise LabelError(where, "label_float", "holds whole numbers as floating point")
    return _whole(values, where)


def _without_alpha(image: Image.Image, where: str, convert: bool) -> np.ndarray:
    values, alpha = (np.asarray(image)[..., k] for k in range(2))
    if (alpha != alpha.flat[0]).any():
        raise LabelError(where, "label_mode", "has an alpha channel that varies, which may hold the classes")
    if not convert:
        raise LabelError(where, "label_alpha", f"is a label of mode {image.mode}, with an alpha channel")
    return np.ascontiguousarray(values)


def _from_channels(image: Image.Image, where: str, one_channel: bool) -> np.ndarray:
    pixels = np.asarray(image)
    if (pixels[..., 0] != pixels[..., 1]).any() or (pixels[..., 0] != pixels[..., 2]).any():
        raise LabelError(where, "label_rgb", f"is a label of mode {image.mode}, which holds colours")
    if image.mode == "RGBA" and (pixels[..., 3] != pixels[0, 0, 3]).any():
        raise LabelError(where, "label_mode", "has an alpha channel that varies, which may hold the classes")
    if not one_channel:
        raise LabelError(
            where, "label_gray_in_rgb", f"is a label of mode {image.mode} with three equal channels"
        )
    return np.ascontiguousarray(pixels[..., 0])
