"""EXIF's orientation: how a camera was held, and whether a label fits the stored pixels or the upright view.

Training and scoring use the pixels as they are stored. Labelling tools show the upright view.
"""

from enum import Enum

from PIL import Image

_TAG = 0x0112
# The transposition from the upright view back to the stored pixels, by orientation.
_TO_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

UPRIGHT_FIX = (
    "Write the images upright with `mit-semseg data prepare folders SOURCE OUT`: training and scoring use "
    "the pixels as they are stored."
)
UNDECIDED_FIX = (
    "Compare one of these images with its label: training and scoring use the pixels as they are stored. "
    "If the label fits the upright view, `mit-semseg data prepare folders SOURCE OUT --upright` turns them."
)


class Fit(Enum):
    """The view of an image whose size its label has."""

    STORED = "stored"
    """The stored pixels, and not the upright view; or the image has no orientation."""
    UPRIGHT = "upright"
    """The upright view, and not the stored pixels."""
    UNDECIDED = "undecided"
    """Both views: they have the same size, but differ."""
    NEITHER = "neither"


def orientation_of(image: Image.Image) -> int:
    """The orientation of an opened image, 1 to 8, from its header; 1 if it has none.

    It is 1 for a TIFF, too, because Pillow gives the size and the pixels of its upright view.
    """
    if image.format == "TIFF":
        return 1
    try:
        # PngImageFile.getexif decodes the whole image; the base class reads what the header has.
        value = Image.Image.getexif(image).get(_TAG, 1)
    except Exception:  # the pixels can be used despite damaged EXIF
        return 1
    return value if value in range(1, 9) else 1


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of the upright view of an image with that stored size."""
    return size[::-1] if orientation >= 5 else size


def fit(image: tuple[int, int], label: tuple[int, int], orientation: int) -> Fit:
    """Which view a label fits, by the (width, height) of the stored image and of the label.

    >>> fit((60, 40), (40, 60), 6), fit((60, 40), (60, 40), 3)
    (<Fit.UPRIGHT: 'upright'>, <Fit.UNDECIDED: 'undecided'>)
    """
    upright = upright_size(image, orientation)
    if label not in (image, upright):
        return Fit.NEITHER
    if orientation == 1 or label != upright:
        return Fit.STORED
    return Fit.UNDECIDED if image == upright else Fit.UPRIGHT


def turned_to_stored(image: Image.Image, orientation: int) -> Image.Image:
    """An image turned from the upright view back to the stored pixels."""
    return image.transpose(_TO_STORED[orientation]) if orientation > 1 else image
