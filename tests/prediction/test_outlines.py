"""Outlines of masks as polygons: without loss for each way to fill them, and simpler."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from mit_semseg.data.polygons import crosses_itself
from mit_semseg.prediction.tools.areas import BY_CENTERS, WITH_OUTLINE, Cost, polygons_of
from mit_semseg.prediction.tools.outlines import outlines

RING = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0]], bool)


def drawn(labels, simplify, drawing, cost=None):
    """The label map of polygons, drawn one above the other."""
    canvas = np.full(labels.shape, -1)
    for area in polygons_of(labels, simplify, drawing, cost or Cost(9)):
        height, width = area.pixels.shape
        canvas[area.top : area.top + height, area.left : area.left + width][area.pixels] = area.k
    return canvas


def test_an_outline_runs_along_the_sides_of_pixels_and_a_slit_leads_to_the_hole():
    (ring,) = outlines(RING, 0)
    corners = {tuple(point) for point in ring.tolist()}
    assert corners == {(1, 1), (4, 1), (4, 4), (1, 4), (2, 2), (3, 2), (3, 3), (2, 3), (1, 2)}
    assert not crosses_itself(ring)
    # Its area is that of the mask, by the shoelace formula, so the hole runs the other way round.
    x, y = ring.T
    assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == RING.sum()


@pytest.mark.parametrize("drawing", [BY_CENTERS, WITH_OUTLINE], ids=["by centres", "with outline"])
def test_polygons_that_are_not_simplified_lose_no_pixel(drawing):
    rng = np.random.Generator(np.random.Philox(3))
    for trial in range(300):
        height, width = rng.integers(1, 14, 2)
        labels = rng.integers(0, 1 + trial % 4 + 1, (height, width))
        if trial % 3 == 0:  # larger parts
            labels = labels.repeat(3, 0).repeat(2, 1)
        cost = Cost(9)
        np.testing.assert_array_equal(drawn(labels, 0, drawing, cost), labels)
        assert cost.iou() == 1


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_pycocotools_fills_the_same_pixels():
    masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.Generator(np.random.Philox(4))
    for _ in range(100):
        height, width = rng.integers(2, 20, 2).tolist()
        mask = rng.random((height, width)) < 0.6
        rings = [ring.ravel().tolist() for ring in outlines(mask, 0)]
        theirs = masks.decode(masks.merge(masks.frPyObjects(rings, height, width)))
        np.testing.assert_array_equal(theirs, mask)


def test_a_simpler_outline_has_fewer_points_and_costs_what_is_said():
    y, x = np.mgrid[:60, :80]
    labels = ((x - 40) ** 2 + (y - 30) ** 2 < 400).astype(int)
    costs = []
    points = []
    for simplify in (0, 1, 3):
        cost = Cost(2)
        areas = polygons_of(labels, simplify, BY_CENTERS, cost)
        points.append(sum(len(area.ring) for area in areas))
        costs.append(cost.iou())
        # By hand: each class's polygon against its mask.
        ious = []
        for k in (0, 1):
            mine = np.zeros(labels.shape, bool)
            for area in areas:
                if area.k == k:
                    height, width = area.pixels.shape
                    mine[area.top : area.top + height, area.left : area.left + width] |= area.pixels
            ious.append((mine & (labels == k)).sum() / (mine | (labels == k)).sum())
        assert cost.iou() == pytest.approx(np.mean(ious))
    assert points[0] > points[1] > points[2]
    assert costs[0] == 1 > costs[1] > costs[2] > 0.8


def test_specks_are_omitted_by_simplifying_unless_nothing_would_be_left():
    labels = np.zeros((20, 20), int)
    labels[5, 5] = 1
    cost = Cost(2)
    assert {area.k for area in polygons_of(labels, 2, BY_CENTERS, cost)} == {0}
    assert cost.iou() < 0.51  # class 1 has lost its only pixel
    assert [area.k for area in polygons_of(np.zeros((1, 1), int), 2, BY_CENTERS, Cost(2))] == [0]


def test_pixels_without_data_belong_to_no_shape():
    labels = np.array([[-1, -1, 0], [-1, 1, 0]])
    np.testing.assert_array_equal(drawn(labels, 0, BY_CENTERS), labels)
    assert polygons_of(np.full((3, 3), -1), 2, BY_CENTERS, Cost(2)) == []
