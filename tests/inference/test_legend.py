import numpy as np
import pytest

from mit_semseg.inference.pictures import add_legend, by_share, class_shares

COLORS = np.array([[10, 20, 30], [200, 100, 0], [255, 0, 255]], np.uint8)
NAMES = ("wall", "swimming pool", "cat")


def photo(height, width):
    return np.random.Generator(np.random.Philox(3)).integers(0, 256, (height, width, 3)).astype(np.uint8)


def colors_in(strip):
    """The classes whose colour fills a square of 5 x 5 pixels, from top left to bottom right."""
    found = {}
    for k, color in enumerate(COLORS):
        rows, columns = np.nonzero((strip == color).all(-1))
        if len(rows) >= 25:
            found[k] = (int(rows.min()), int(columns.min()))
    return sorted(found, key=found.__getitem__)


def test_shares_by_hand():
    labels = np.array([[0, 0], [2, -1]])
    assert class_shares(labels, 4).tolist() == [0.5, 0, 0.25, 0]
    assert class_shares(np.array([[1]], np.uint8), 2).tolist() == [0, 1]
    assert by_share([0.2, 0, 0.5, 0.2, 0.0005]) == [2, 0, 3]


@pytest.mark.parametrize("size", [(1, 1), (30, 20), (300, 500), (1200, 1600)])
def test_the_picture_stays_as_it_is_above_its_legend(size):
    picture = photo(*size)
    drawn = add_legend(picture, [2, 0], NAMES, COLORS)
    np.testing.assert_array_equal(drawn[: size[0], : size[1]], picture)
    assert colors_in(drawn[size[0] :]) == [2, 0]


def test_the_text_is_of_twelve_pixels_at_least_and_grows_with_the_picture():
    heights = [len(add_legend(photo(side, side), [0], NAMES, COLORS)) - side for side in (1, 60, 840)]
    assert 18 <= heights[0] == heights[1]
    assert heights[2] > 2 * heights[0]


def test_a_name_that_is_wider_than_the_picture_is_not_cut():
    narrow = add_legend(photo(10, 10), [1], NAMES, COLORS)
    wide = add_legend(photo(10, 400), [1], NAMES, COLORS)
    ink = [(drawn[10:] < 100).all(-1).sum() for drawn in (narrow, wide)]
    assert ink[0] == ink[1] > 0


def test_without_classes_there_is_an_empty_strip():
    drawn = add_legend(photo(40, 50), [], NAMES, COLORS)
    assert (drawn[40:] == 255).all()


def test_with_fixed_rows_the_size_does_not_depend_on_the_classes_and_the_largest_find_a_place():
    pictures = [add_legend(photo(40, 50), classes, NAMES, COLORS, rows=2) for classes in ([], [0], [2, 0, 1])]
    assert len({drawn.shape for drawn in pictures}) == 1
    assert colors_in(pictures[2][40:]) == [2, 0]
    assert len(add_legend(photo(40, 50), [0], NAMES, COLORS, rows=9)) > len(pictures[0])
    assert add_legend(photo(40, 900), [0], NAMES, COLORS, rows=9).shape == (40 + 18 + 9, 900, 3)
