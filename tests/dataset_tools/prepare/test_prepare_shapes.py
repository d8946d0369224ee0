"""The one place that paints shapes: which of two has a pixel, holes, and what is ignored."""

import numpy as np
import pytest

from mit_semseg.data.polygons import rectangle
from mit_semseg.dataset_tools.prepare.shapes import Mask, Polygon, Shape, outside, paint

NUMBERS = {"car": 1, "road": 2, "void": 0}
SIZE = (6, 4)


def box(name, *corners, ignored=False, holes=()):
    return Shape(name, (Polygon((rectangle(*corners), *(rectangle(*hole) for hole in holes))),), ignored)


def painted(shapes, **options):
    return ["".join(map(str, row)) for row in paint(shapes, NUMBERS, SIZE, **options)]


CAR, ROAD = box("car", 1, 1, 3, 3), box("road", 0, 0, 5, 4)


def test_a_later_shape_covers_earlier_ones():
    assert painted([ROAD, CAR]) == ["222220", "211220", "211220", "222220"]
    assert painted([CAR, ROAD]) == ["222220"] * 4


def test_a_smaller_shape_covers_larger_ones_in_any_order():
    for shapes in ([ROAD, CAR], [CAR, ROAD]):
        assert painted(shapes, overlap="smaller") == ["222220", "211220", "211220", "222220"]
    equal = [box("road", 0, 0, 2, 1), box("car", 1, 0, 3, 1)]
    assert painted(equal, overlap="smaller")[0] == "211000"
    # What counts are the pixels in the image, not those that are cut off.
    assert painted([box("car", -99, 0, 1, 4), ROAD], overlap="smaller")[0] == "122220"


@pytest.mark.parametrize("overlap", ["later", "smaller"])
def test_crowds_and_ignored_names_are_ignored_whatever_covers_them(overlap):
    crowd = box("car", 0, 0, 2, 2, ignored=True)
    shapes = [crowd, box("void", 4, 0, 6, 1), ROAD, CAR]
    assert painted(shapes, overlap=overlap, background=3) == ["002200", "001223", "211223", "222223"]


def test_holes_stay_holes_and_parts_are_united():
    assert painted([box("road", 0, 0, 6, 4, holes=[(1, 1, 3, 3)])]) == [
        "222222",
        "200222",
        "200222",
        "222222",
    ]
    both = Shape("car", (*box("", 0, 0, 3, 2).parts, *box("", 2, 1, 4, 3).parts))
    assert painted([both]) == ["111000", "111100", "001100", "000000"]


def test_masks_have_a_place_and_are_cut_off():
    pixels = np.array([[1, 1, 1], [1, 0, 1]], bool)
    assert painted([Shape("car", (Mask.of(pixels, 2, 1),))]) == ["000000", "001110", "001010", "000000"]
    reaching = Shape("car", (Mask.of(pixels, -1, 3),))
    assert painted([reaching])[3] == "110000"
    assert outside(reaching, SIZE)
    assert painted([Shape("car", (Mask.of(pixels, 9, 9),))]) == ["000000"] * 4


def test_a_shape_is_outside_if_more_than_a_pixel_is_cut_off():
    assert not outside(box("car", -1, 0, 7, 4), SIZE)
    assert outside(box("car", -1.5, 0, 6, 4), SIZE)


def test_names_without_a_number_are_not_painted():
    assert painted([box("dog", 0, 0, 6, 4)], background=1) == ["111111"] * 4
