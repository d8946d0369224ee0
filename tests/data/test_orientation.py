import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from mit_semseg.data.orientation import Fit, fit, orientation_of, turned_to_stored

PIXELS = np.random.Generator(np.random.Philox(4)).integers(0, 256, (3, 5, 3)).astype(np.uint8)


def encoded(orientation, kind="PNG", pixels=PIXELS):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif)
    return buffer.getvalue()


def opened(orientation, kind="PNG"):
    return Image.open(io.BytesIO(encoded(orientation, kind)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_viewers_turn_is_turned_back(orientation):
    image = opened(orientation)
    assert orientation_of(image) == orientation
    upright = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(np.asarray(turned_to_stored(upright, orientation)), PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_header_is_enough(kind):
    data = encoded(6, kind, np.tile(PIXELS, (40, 40, 1)))
    assert orientation_of(Image.open(io.BytesIO(data[: len(data) // 2]))) == 6
    for odd in (0, 9):
        assert orientation_of(opened(odd, kind)) == 1


@pytest.mark.parametrize(
    ("image", "label", "orientation", "expected"),
    [
        ((6, 4), (6, 4), 1, Fit.STORED),
        ((6, 4), (6, 4), 6, Fit.STORED),
        ((6, 4), (4, 6), 6, Fit.UPRIGHT),
        ((6, 4), (4, 6), 3, Fit.NEITHER),
        ((6, 4), (4, 6), 1, Fit.NEITHER),
        ((6, 4), (6, 4), 3, Fit.UNDECIDED),
        ((4, 4), (4, 4), 8, Fit.UNDECIDED),
        ((6, 4), (5, 4), 6, Fit.NEITHER),
    ],
)
def test_the_size_shows_which_view_a_label_fits(image, label, orientation, expected):
    assert fit(image, label, orientation) is expected


def test_a_tiff_is_turned_by_pillow():
    image = opened(6, "TIFF")
    assert (orientation_of(image), image.size) == (1, (3, 5))
    np.testing.assert_array_equal(np.asarray(image), np.rot90(PIXELS, -1))
