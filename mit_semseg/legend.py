"""The legend of a picture: the names of its classes beside their colours, in a strip below it."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import PIL.Image
from numpy.typing import ArrayLike, NDArray
from PIL.ImageDraw import Draw
from PIL.ImageFont import FreeTypeFont, load_default

from .visualize import Image

SMALLEST_SHARE = 0.001
"""Of an image; classes below it are not worth a word."""

_TEXT, _BACKGROUND, _RIM = (28, 35, 48), (255, 255, 255), (140, 140, 140)
_SIZES = (12, 160)  # of the text, in pixels: the smallest that is legible, the largest
_LINES_PER_PICTURE = 28  # lines of text that would fill its shorter side


def class_shares(labels: NDArray[np.integer], num_class: int) -> NDArray[np.float64]:
    """The share of each class in all pixels of a label map; negative labels count for none."""
    counts = np.bincount(labels.ravel() if labels.dtype.kind == "u" else labels[labels >= 0])
    return np.pad(counts, (0, num_class - len(counts))) / max(1, labels.size)


def by_share(shares: ArrayLike, least: float = SMALLEST_SHARE) -> list[int]:
    """The classes with a share above ``least``, the largest first."""
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
    """A picture with a strip below it that names classes beside their colours. Nothing of it is covered.

    The text grows with the picture. It stays legible below a tiny one, which gets a margin at its right if
    it is narrower than a name. Pillow's built-in font has the letters of Latin alphabets only.

    Args:
        picture: (H, W, 3).
        classes: in the order to name them.
        names, colors: of all classes, (num_class, 3) RGB.
        rows: at most so many, and the strip has room for the names of all classes as far as they fit in
            them. So pictures of one size stay of one size, whatever their classes; some find no place.
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
    return cast(FreeTypeFont, load_default(size))  # with a size, it is that
