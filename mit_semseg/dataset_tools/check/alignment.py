"""Whether a label lies on its image as it should, by the agreement of edges.

Borders between classes mostly lie on edges of the image. So the mean edge strength below the borders of a
label is higher than that below the same borders elsewhere: moved or mirrored. If it is clearly higher
elsewhere, the label is moved or mirrored against its image. Edge strengths are ranks, so that a few strong
edges, such as those of letters, do not decide. Strengths elsewhere give the scale: z = (strength - median) /
deviation, where the deviation is 1.4826 times the median absolute deviation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONG_EDGE = 192
"""Pixels of the longer side of the small pictures that are compared."""
REACH = 24
"""Pixels of a small picture by which a label may be moved: an eighth of its longer side."""

_SHORTEST = 2 * REACH  # of the other side
_FEWEST_BORDERS = 64  # pixels of a small picture; fewer may lie on edges by chance
_BORDER_SHARE = 0.3  # of the cell that has the largest share of border pixels
_CLEAR = 3.0  # z of borders that lie on edges
_BETTER = 1.3  # by which the z elsewhere is higher; measured, see docs/data.md
_FAR = 3  # pixels of a small picture that count as a move
_MEAN_IMAGES = 8  # from which the mean over a list shows a small move of all labels
_MEAN_FAR, _MEAN_BETTER = 2, 0.3  # likewise; the mean over images has less noise

MIRRORS = {"left to right": (1, -1), "top to bottom": (-1, 1), "by half a turn": (-1, -1)}
"""How labels may be mirrored: the steps along rows and columns."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a label and its image agree.

    Attributes:
        moved: z of the label moved by (y, x) of -REACH to REACH pixels of the small picture, (49, 49). Its
            centre is that of the label as it is.
        mirrored: z of the label in each of `MIRRORS`.
        scale: pixels of the image in a pixel of the small picture.
    """

    moved: NDArray[np.float16]
    mirrored: tuple[float, ...]
    scale: float


def small_gray(image: Image.Image) -> NDArray[np.uint8]:
    """A small gray picture of an image, whose longer side is `LONG_EDGE`, (h, w)."""
    size = small_size(*image.size)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(np.asarray(image).astype(np.float32))
        values = np.nan_to_num(np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)))
        low, high = np.percentile(values, (1, 99))
        return (255 * np.clip((values - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR, reducing_gap=2))


def small_borders(label: NDArray[np.integer]) -> NDArray[np.bool_]:
    """The borders between the values of a label (H, W), as large as `small_gray`."""
    borders = np.zeros(label.shape, np.uint8)
    across, down = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    for part, found in (
        (np.s_[:, 1:], across),
        (np.s_[:, :-1], across),
        (np.s_[1:], down),
        (np.s_[:-1], down),
    ):
        borders[part] |= found
    shape = label.shape[1], label.shape[0]
    share = np.asarray(Image.fromarray(255 * borders).resize(small_size(*shape), Image.Resampling.BOX))
    return share > max(1.0, _BORDER_SHARE * float(share.max()))


def small_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the small picture of an image."""
    factor = LONG_EDGE / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def agreement(gray: NDArray[np.uint8], borders: NDArray[np.bool_], scale: float) -> Agreement | None:
    """How well the small pictures of an image and a label agree; None if they are too small to say."""
    if gray.shape != borders.shape or min(gray.shape) < _SHORTEST or borders.sum() < _FEWEST_BORDERS:
        return None
    from scipy.fft import irfft2, next_fast_len, rfft2  # slow to import

    strength = _edge_ranks(gray)
    # Wider by the longest move, so that what is moved out on one side does not come in on the other.
    size = tuple(next_fast_len(side + REACH, real=True) for side in gray.shape)
    spectrum = rfft2(strength, size)

    def strengths(rows: int, columns: int) -> NDArray[np.float32]:
        turned = rfft2(borders[::rows, ::columns].astype(np.float32), size)
        found = irfft2(spectrum * turned.conj(), size)
        return np.roll(found, (REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1] / borders.sum()

    maps = [strengths(1, 1), *(strengths(*steps) for steps in MIRRORS.values())]
    middle = float(np.median(maps))
    deviation = 1.4826 * float(np.median(np.abs(np.array(maps) - middle)))
    if not deviation > 1e-6:
        return None  # an image without edges
    moved, *others = ((one - middle) / deviation for one in maps)
    return Agreement(moved.astype(np.float16), tuple(float(_near(one).max()) for one in others), scale)


def mirror_of(found: Agreement) -> str:
    """How a label is mirrored, one of `MIRRORS`; "" if it does not seem to be."""
    best = int(np.argmax(found.mirrored))
    if found.mirrored[best] < max(_CLEAR, float(_near(found.moved).max()) + _BETTER):
        return ""
    # A label that is moved, and not mirrored, fits best without a mirror.
    return list(MIRRORS)[best] if found.mirrored[best] > found.moved.max() else ""


def move_of(found: Agreement) -> tuple[int, int] | None:
    """The pixels of the image by which a label has to move to fit, (right, down); None if it seems to fit."""
    peak = float(found.moved.max())
    if peak < max(_CLEAR, float(_near(found.moved).max()) + _BETTER):
        return None
    return _move(found.moved, _FAR, found.scale)


def common_move(mean: NDArray[np.floating], images: int, scale: float) -> tuple[int, int] | None:
    """As `move_of`, for all labels of a list, from the mean of `Agreement.moved` over a number of images."""
    if images < _MEAN_IMAGES or mean.max() < float(_near(mean, 0).max()) + _MEAN_BETTER:
        return None
    return _move(mean, _MEAN_FAR, scale)


def describe_move(move: tuple[int, int]) -> str:
    """A move in words.

    >>> describe_move((-8, 0)), describe_move((3, 4))
    ('8 pixels to the left', '3 pixels to the right and 4 down')
    """
    right, down = move
    words = [f"{abs(right)} pixels to the {'right' if right > 0 else 'left'}"] if right else []
    if down:
        words.append(f"{abs(down)}{'' if words else ' pixels'} {'down' if down > 0 else 'up'}")
    return " and ".join(words)


def _move(moved: NDArray[np.floating], least: int, scale: float) -> tuple[int, int] | None:
    row, column = np.unravel_index(int(moved.argmax()), moved.shape)
    down, right = int(row) - REACH, int(column) - REACH
    if max(abs(down), abs(right)) < least:
        return None
    return round(right * scale), round(down * scale)


def _near(moved: NDArray[np.floating], reach: int = 1) -> NDArray[np.floating]:
    """Those of moves by at most a pixel, since borders are drawn that inexactly."""
    return moved[REACH - reach : REACH + reach + 1, REACH - reach : REACH + reach + 1]


def _edge_ranks(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The rank of the gradient of each pixel, from -0.5 for the smallest to 0.5. Equal ones share one."""
    values = gray.astype(np.int32)
    gradient = np.zeros_like(values)
    gradient[:, 1:-1] += (values[:, 2:] - values[:, :-2]) ** 2
    gradient[1:-1] += (values[2:] - values[:-2]) ** 2
    counts = np.bincount(gradient.ravel())
    ranks = (np.cumsum(counts) - counts / 2) / gradient.size - 0.5
    return ranks[gradient].astype(np.float32)
