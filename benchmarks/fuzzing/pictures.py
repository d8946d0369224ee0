"""Damage to images, labels and videos: content, mode, size, format, and headers that lie."""

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from .damage import damaged, displaced

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "TGA", "PPM", "JPEG2000", "ICO", "AVIF", "MPO")


def image(path: Path, rng: Random) -> str:
    """Damage an image; return what was done."""
    kind = rng.choice(["bytes", "bytes", "place", "mode", "size", "pages", "exif", "claims", "format"])
    if kind == "place":
        return displaced(path, rng, pipes=True)
    picture = _opened(path)
    if kind == "bytes" or picture is None:
        return _bytes(path, rng)
    if kind == "size":
        size = rng.choice([(1, 1), (1, 40), (40, 1), (2, 3), (41, 32), (32, 40), (300, 7)])
        return _save(picture.resize(size), path, rng, f"is {size[0]} x {size[1]}")
    if kind == "pages":
        return _save_pages(picture, path, rng)
    if kind == "exif":
        return _save_exif(picture, path, rng)
    if kind == "claims":
        return _claims(picture, path, rng)
    mode = rng.choice(_MODES)
    try:
        picture = picture.convert(mode)
    except (ValueError, OSError):
        picture = picture.convert("RGB")
    return _save(picture, path, rng, f"has mode {picture.mode}")


def label(path: Path, rng: Random) -> str:
    """Damage a label; return what was done."""
    if rng.random() < 0.5:
        return image(path, rng)
    picture = _opened(path)
    if picture is None:
        return _bytes(path, rng)
    values = np.array(picture.convert("L"))
    kind = rng.choice(
        ["empty", "full", "high", "16 bit", "negative", "palette", "colors", "random", "1 pixel"]
    )
    if kind == "empty":
        values[:] = 0
    elif kind == "full":
        values[:] = 255
    elif kind == "high":
        values[0, 0] = rng.choice([4, 5, 100, 254])
    elif kind == "random":
        values = np.frombuffer(rng.randbytes(values.size), np.uint8).reshape(values.shape)
    elif kind == "1 pixel":
        values[:] = 0
        values[-1, -1] = 1
    new = Image.fromarray(values)
    if kind == "16 bit":
        new = Image.fromarray(values.astype(np.uint16) + rng.choice([0, 1000, 60000]))
    elif kind == "negative":
        new = Image.fromarray(values.astype(np.int32) - 5)
    elif kind == "palette":
        new.putpalette(rng.randbytes(rng.choice([3, 12, 768])))
        if rng.random() < 0.5:
            new.info["transparency"] = rng.choice([0, 1, rng.randbytes(4)])
    elif kind == "colors":
        new = Image.merge("RGB", [new, new, new.point(lambda value: 255 - value)])
    return _save(new, path, rng, f"has values: {kind}")


def video(path: Path, rng: Random) -> str:
    """Damage a video; return what was done."""
    return displaced(path, rng, pipes=True) if rng.random() < 0.2 else _bytes(path, rng)


def _opened(path: Path) -> Image.Image | None:
    try:
        if not path.is_file():
            return None
        with Image.open(path) as picture:
            picture.load()
            return picture
    except Exception:
        return None


def _bytes(path: Path, rng: Random) -> str:
    if not path.is_file():
        return "was replaced already"
    data, what = damaged(path.read_bytes(), rng)
    path.write_bytes(data)
    return what


def _save(picture: Image.Image, path: Path, rng: Random, what: str) -> str:
    """Save a picture under a name that may belong to another format."""
    own = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    for name in (own if rng.random() < 0.5 else rng.choice(_FORMATS), "TIFF", "PNG"):
        try:
            buffer = io.BytesIO()
            picture.save(buffer, name)
        except Exception:  # the format does not have the mode
            continue
        path.write_bytes(buffer.getvalue())
        return f"{what}, as {name}"
    return "is the same"


def _save_pages(picture: Image.Image, path: Path, rng: Random) -> str:
    name = rng.choice(["GIF", "PNG", "WEBP", "TIFF"])
    pages = [picture.convert("RGB").rotate(90 * k) for k in range(1, rng.choice([2, 5]))]
    if rng.random() < 0.3:
        pages.append(pages[0].resize((7, 5)))
    buffer = io.BytesIO()
    try:
        picture.convert("RGB").save(buffer, name, save_all=True, append_images=pages)
    except RuntimeError:  # WebP needs pages of one size
        return "is the same"
    path.write_bytes(buffer.getvalue())
    return f"has {len(pages) + 1} pages, as {name}"


def _save_exif(picture: Image.Image, path: Path, rng: Random) -> str:
    exif = Image.Exif()
    exif[0x0112] = rng.choice([0, 1, 2, 3, 5, 6, 8, 9, 255, 65535])
    data = exif.tobytes()
    what = f"has the orientation {exif[0x0112]!r}"
    if rng.random() < 0.4:
        data, change = damaged(data, rng)
        what += f", and its EXIF {change}"
    buffer = io.BytesIO()
    try:
        picture.save(buffer, rng.choice(["JPEG", "PNG", "WEBP", "TIFF"]), exif=data)
    except Exception:  # the format does not have the mode, or Pillow reads the EXIF
        return "is the same"
    path.write_bytes(buffer.getvalue())
    return what


def _claims(picture: Image.Image, path: Path, rng: Random) -> str:
    """Write a file whose header claims another size than its content has."""
    width, height = rng.choice(
        [(0, 0), (1, 2**31 - 1), (60000, 60000), (2**16 - 1,) * 2, (20000, 20000), (40, 33)]
    )
    name = rng.choice(["PNG", "JPEG", "BMP", "GIF"])
    buffer = io.BytesIO()
    if picture.mode == "LAB":  # which Pillow does not convert
        picture = Image.new("RGB", picture.size)
    picture.convert("P" if name == "GIF" else "RGB").save(buffer, name)
    data = bytearray(buffer.getvalue())
    if name == "PNG":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif name == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif name == "GIF":
        data[6:10] = struct.pack("<HH", width % 2**16, height % 2**16)
    else:
        start = data.find(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", height % 2**16, width % 2**16)
    path.write_bytes(bytes(data))
    return f"claims {width} x {height}, as {name}"
