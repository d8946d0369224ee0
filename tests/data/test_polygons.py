"""Polygons as pixels: by hand, by properties, and within the outline of other programs."""

import numpy as np
import pytest

from mit_semseg.data.polygons import crosses_itself, ellipse, fill_polygon, rectangle, turned


def drawn(*rings, height=4, width=6):
    return [
        "".join("#" if x else "." for x in row)
        for row in fill_polygon([np.array(r, float) for r in rings], height, width)
    ]


def test_a_pixel_belongs_if_its_centre_is_inside():
    assert drawn([(1, 1), (4, 1), (4, 3), (1, 3)]) == ["......", ".###..", ".###..", "......"]
    assert drawn([(1.4, 0), (4.6, 0), (4.6, 1), (1.4, 1)])[0] == ".####."
    assert drawn([(1.6, 0), (4.4, 0), (4.4, 1), (1.6, 1)])[0] == "..##.."
    # The diagonal passes through the centres of (0, 0), (1, 1), ...: these belong to one side only.
    lower, upper = [(0, 0), (4, 4), (0, 4)], [(0, 0), (4, 0), (4, 4)]
    assert drawn(upper, width=4) == ["####", ".###", "..##", "...#"]
    assert drawn(lower, width=4) == ["....", "#...", "##..", "###."]


def test_a_ring_within_a_ring_is_a_hole_and_what_is_surrounded_twice_is_outside():
    outer = [(0, 0), (6, 0), (6, 4), (0, 4)]
    assert drawn(outer, [(2, 1), (4, 1), (4, 3), (2, 3)]) == ["######", "##..##", "##..##", "######"]
    twice = [(0, 0), (6, 0), (6, 4), (0, 4), (0, 0), (2, 1), (4, 1), (4, 3), (2, 3), (2, 1)]
    assert drawn(twice) == ["######", "##..##", "##..##", "######"]
    bow = [(0, 0), (6, 4), (6, 0), (0, 4)]
    assert drawn(bow)[1] == drawn(bow)[2] == "##..##"
    assert crosses_itself(np.array(bow))
    assert not crosses_itself(np.array(outer))
    assert not crosses_itself(np.array([(0, 0), (4, 0), (4, 4), (4, 0), (0, 3)]))  # there and back


def test_what_is_outside_of_the_image_is_cut_off():
    assert drawn([(-1e9, -1e9), (2, -1e9), (2, 1e9), (-1e9, 1e9)]) == ["##...."] * 4
    assert drawn([(7, 1), (9, 1), (9, 3)]) == ["......"] * 4
    random = np.random.default_rng(0)
    for _ in range(50):
        ring = random.normal(20, 30, (random.integers(3, 12), 2))
        large = fill_polygon([ring + 200], 440, 440)[200:240, 200:240]
        assert (fill_polygon([ring], 40, 40) == large).all()


def test_triangles_that_cover_a_square_give_each_pixel_to_one_of_them():
    corners = np.array([(0, 0), (30, 0), (30, 30), (0, 30)], float)
    middle = np.array([11.3, 17.9])
    counts = sum(
        fill_polygon([np.array([corners[k], corners[(k + 1) % 4], middle])], 30, 30).astype(int)
        for k in range(4)
    )
    assert (counts == 1).all()


def test_an_ellipse_has_its_area_and_turns_clockwise():
    pixels = fill_polygon([ellipse(50, 50, 40, 10)], 100, 100)
    assert abs(pixels.sum() / (np.pi * 400) - 1) < 0.01
    turned_pixels = fill_polygon([ellipse(50, 50, 40, 10, 30)], 100, 100)
    assert turned_pixels[64, 75]  # to the lower right
    assert not turned_pixels[36, 75]
    np.testing.assert_allclose(turned(rectangle(0, 0, 2, 1), 90)[1], (0, 2), atol=1e-12)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # by pycocotools
def test_other_programs_differ_on_the_outline_only():
    tool = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(2)
    rows, columns = np.mgrid[:80, :90] + 0.5
    for _ in range(30):
        angles = np.sort(random.random(8)) * 2 * np.pi
        ring = np.stack([np.cos(angles), np.sin(angles)], 1) * random.uniform(5, 60, (8, 1)) + 40
        ours = fill_polygon([ring], 80, 90)
        theirs = tool.decode(tool.frPyObjects([ring.ravel().tolist()], 80, 90))[..., 0].astype(bool)
        start, along = ring, np.roll(ring, -1, 0) - ring
        points = np.stack([columns, rows], -1)[ours != theirs]
        place = (((points[:, None] - start) * along).sum(-1) / (along**2).sum(-1)).clip(0, 1)
        distance = np.linalg.norm(points[:, None] - (start + place[..., None] * along), axis=-1).min(1)
        assert (distance < 1).all()
