"""Pictures of label maps, their legends, and the files that hold pictures, labels and scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
from numpy.typing import ArrayLike, NDArray
from PIL.ImageDraw import Draw
from PIL.ImageFont import FreeTypeFont, load_default
from PIL.PngImagePlugin import PngInfo

from ..runtime.files import replacing

Image = NDArray[np.uint8]  # (H, W, 3), RGB

MARK = "mit_semseg"
"""The "Software" entry in the metadata of pictures and videos that the package writes."""

SMALLEST_SHARE = 0.001
"""Share of an image; classes with a smaller share are not worth mentioning."""

_SOFTWARE = 305  # tag of TIFF
_PNG = b"\x89PNG"
_START = 512  # bytes in which a PNG without large metadata begins its pixels
_TEXT, _BACKGROUND, _RIM = (28, 35, 48), (255, 255, 255), (140, 140, 140)
_SIZES = (12, 160)  # of the text, in pixels: the smallest legible size, the largest
_LINES_PER_PICTURE = 28  # lines of text that would fill its shorter side


def colorEncode(labelmap: ArrayLike, colors: ArrayLike, mode: str = "RGB") -> Image:
    """A label map in colours.

    Args:
        labelmap: (H, W) classes; negative values become black.
        colors: (num_class, 3) uint8.
        mode: "RGB", or "BGR" for the reverse order of channels.

    Returns: (H, W, 3) uint8.
    Raises: ValueError for a class without a colour, or another mode.
    """
    labels, table = np.asarray(labelmap), np.asarray(colors, np.uint8)
    if mode not in ("RGB", "BGR"):
        raise ValueError(f"mode is {mode!r}, but takes 'RGB' or 'BGR'")
    if labels.size and labels.max() >= len(table):
        raise ValueError(f"labelmap holds class {labels.max()}, but there are {len(table)} colours")
    if mode == "BGR":
        table = table[:, ::-1]
    with_black = np.concatenate([table, np.zeros((1, 3), np.uint8)])  # the last row, which is index -1
    if labels.dtype.kind != "u":
        labels = np.maximum(labels if labels.dtype.kind == "i" else labels.astype(np.int64), -1)
    return np.take(with_black, labels, axis=0)  # a sixth of the time of with_black[labels]


def overlay(image: Image, labelmap: ArrayLike, colors: ArrayLike, alpha: float = 0.5) -> Image:
    """A photo blended with its label map; where labels are negative, the photo is unchanged.

    Args:
        image: (H, W, 3).
        labelmap: (H, W) classes.
        colors: (num_class, 3) uint8.
        alpha: weight of the colours, from 0 (the photo alone) to 1.

    Returns: (H, W, 3) uint8.
    Raises: ValueError for an alpha out of range, for sizes that differ, and as `colorEncode` does.
    """
    labels = np.asarray(labelmap)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, but takes a number from 0 to 1")
    if image.shape[:2] != labels.shape:
        raise ValueError(f"image is {image.shape[:2]} (height, width), but labelmap is {labels.shape}")
    weight = np.uint16(round(256 * alpha))
    blended = colorEncode(labels, colors).astype(np.uint16)
    blended *= weight
    blended += image * np.uint16(256 - weight)
    blended += np.uint16(128)
    blended >>= np.uint16(8)
    result = blended.astype(np.uint8)
    if labels.dtype.kind != "u":
        unlabelled = labels < 0
        result[unlabelled] = image[unlabelled]
    return result


def side_by_side(pictures: Sequence[Image]) -> Image:
    """Pictures of the same height, joined in a row."""
    return np.concatenate(list(pictures), axis=1)


def save_picture(picture: NDArray[np.uint8] | NDArray[np.uint16], path: Path) -> None:
    """Write a picture as PNG, atomically. Its folder is created if it does not exist.

    Args:
        picture: (H, W, 3) RGB, or (H, W) gray values of 8 or 16 bits.

    Raises: UserError if the file cannot be written.
    """
    info = PngInfo()
    info.add_text("Software", MARK)
    with replacing(path) as file:
        PIL.Image.fromarray(picture).save(
            file,
            format="PNG",
            compress_level=1,  # the default takes 5 times as long
            pnginfo=info,
        )


def is_own_picture(path: Path) -> bool:
    """Whether a file is a PNG that `save_picture` has written, or a TIFF with the same mark."""
    try:
        with path.open("rb") as file:
            start = file.read(_START)
        if start.startswith(_PNG) and b"IDAT" in start and MARK.encode() not in start:
            return False  # without a decoder, which would take ten times as long
        with PIL.Image.open(path, formats=["PNG", "TIFF"]) as image:
            of_tiff = getattr(image, "tag_v2", {})
            return (of_tiff.get(_SOFTWARE) or image.info.get("Software")) == MARK
    except (
        OSError,
        ValueError,
        SyntaxError,
        PIL.Image.DecompressionBombError,
    ):  # not a PNG, or a damaged one
        return False


def unlabelled(labels: NDArray[np.integer], without_data: NDArray[np.bool_] | None) -> NDArray[np.integer]:
    """A label map with -1, no class, in the pixels without data, (H, W); the map itself if there are none."""
    if without_data is None:
        return labels
    signed = np.int16 if labels.dtype.itemsize == 1 else np.int32
    return np.where(without_data, signed(-1), labels.astype(signed))


def class_shares(labels: NDArray[np.integer], num_class: int) -> NDArray[np.float64]:
    """Each class's share of all pixels of a label map, (num_class,). Negative labels belong to no class."""
    counts = np.bincount(labels.ravel() if labels.dtype.kind == "u" else labels[labels >= 0])
    return np.pad(counts, (0, num_class - len(counts))) / max(1, labels.size)


def by_share(shares: ArrayLike, least: float = SMALLEST_SHARE) -> list[int]:
    """The classes with a share above ``least``, largest first."""
    values = np.asarray(shares)
    return [int(k) for k in np.argsort(-values, kind="stable") if values[k] > least]


def add_legend(
    picture: Image,
    classes: Sequence[int],
    names: Sequence[str],
    colors: ArrayLike,
    *,
    rows: int | None = None,
) -> Image:
    """A picture with a strip below it that shows the names and colours of classes.

    The text grows with the picture, but stays legible below a tiny one. A picture that is narrower than a
    name gets a margin at its right. Pillow's built-in font has only the letters of Latin alphabets.

    Args:
        picture: (H, W, 3).
        classes: the classes to show, in this order.
        names: names of all classes.
        colors: colours of all classes, (num_class, 3) RGB.
        rows: limit for the rows of the strip. With a limit, the strip has the same size for any ``classes``:
            room for the names of all classes, or as many as fit. Classes that do not fit are omitted.
    """
    height, width = picture.shape[:2]
    font = _font(min(height, width))
    line = round(1.5 * font.size)
    shown = [names[k] for k in classes] if rows is None else names
    column = 2 * line + max((round(font.getlength(name)) for name in shown), default=0)
    width = max(width, column)
    columns = width // column
    needed = -(-len(classes if rows is None else names) // columns)
    rows = needed if rows is None else min(rows, needed)
    strip = PIL.Image.new("RGB", (width, rows * line + line // 2), _BACKGROUND)
    draw = Draw(strip)
    table = np.asarray(colors)
    side = round(0.9 * font.size)
    for place, k in enumerate(classes[: rows * columns]):
        x, y = place % columns * column + line // 2, place // columns * line + line // 4
        top = y + (line - side) // 2
        fill = cast(tuple[int, int, int], tuple(table[k].tolist()))
        draw.rectangle((x, top, x + side - 1, top + side - 1), fill=fill, outline=_RIM)
        draw.text((x + line, y + line / 2), names[k], fill=_TEXT, font=font, anchor="lm")
    result = np.full((height + strip.height, width, 3), _BACKGROUND, np.uint8)
    result[:height, : picture.shape[1]] = picture
    result[height:] = np.asarray(strip)
    return result


def _font(shorter_side: int) -> FreeTypeFont:
    size = min(max(shorter_side // _LINES_PER_PICTURE, _SIZES[0]), _SIZES[1])
    return cast(FreeTypeFont, load_default(size))  # with a size, it is always a FreeTypeFont


def save_labels(labels: NDArray[np.integer], num_class: int, path: Path) -> None:
    """Write a PNG with the gray value k+1 for class k, as ADE20K's server expects, 16-bit above 255 classes.

    A palette would look better, but readers such as OpenCV would then return colours and not classes.
    """
    values = labels.astype(np.uint16) + np.uint16(1)  # -1, no class, becomes 0
    save_picture(values.astype(np.uint8) if num_class <= 255 else values, path)


def save_scores(probabilities: NDArray[np.floating], names: Sequence[str], path: Path) -> None:
    """Write an .npz file with ``probabilities`` (num_class, H, W) float16 and ``names`` (num_class,)."""
    with replacing(path) as file:
        np.savez(file, probabilities=probabilities.astype(np.float16, copy=False), names=np.array(names))
