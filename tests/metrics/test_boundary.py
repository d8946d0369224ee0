"""Boundary IoU against its definition, a mask a class."""

import numpy as np
import pytest

from mit_semseg.metrics.boundary import BoundaryCounts, contour_distance


def near_contour(mask, distance):
    """The pixels of a mask within a square's reach of one outside it, or outside the image, one by one."""
    height, width = mask.shape
    near = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        for j in range(y - distance, y + distance + 1):
            for i in range(x - distance, x + distance + 1):
                near[y, x] |= not (0 <= j < height and 0 <= i < width and mask[j, i])
    return near


def by_definition(pred, label, num_class):
    distance = max(1, round(0.02 * np.sqrt(np.float64(label.shape[0] ** 2 + label.shape[1] ** 2))))
    scores = []
    for k in range(num_class):
        truth = near_contour(label == k, distance)
        guess = near_contour((pred == k) & (label >= 0), distance)
        union = (truth | guess).sum()
        scores.append((truth & guess).sum() / union if union else np.nan)
    return np.array(scores)


def test_a_square_moved_by_a_pixel_by_hand():
    label, pred = np.zeros((2, 12, 12), np.int64)
    label[3:8, 3:8] = 1
    pred[3:8, 4:9] = 1
    counts = BoundaryCounts(2)
    counts.update(pred, label)
    # A ring of 16 pixels each. They share 4 pixels of the upper side and 4 of the lower one.
    assert counts.counts[:, 1].tolist() == [8, 16, 16]
    assert counts.iou()[1] == 8 / 24


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (40, 31), (70, 90), (300, 9)])
def test_it_is_what_the_definition_says(height, width):
    rng = np.random.Generator(np.random.Philox([height, width]))
    label, pred = np.repeat(np.repeat(rng.integers(-1, 4, (2, 60, 30)), 5, 1), 6, 2)[:, :height, :width]
    pred = np.where(rng.random(label.shape) < 0.05, rng.integers(0, 4, label.shape), np.maximum(pred, label))
    pred = np.maximum(pred, 0)
    counts = BoundaryCounts(5)
    counts.update(pred.astype(np.uint8), label)
    np.testing.assert_array_equal(counts.iou(), by_definition(pred, label, 5))
    assert np.isnan(counts.iou()[4])


def test_a_prediction_that_equals_the_label_where_there_is_one_scores_one():
    rng = np.random.Generator(np.random.Philox(3))
    label = np.kron(rng.integers(-1, 3, (6, 8)), np.ones((9, 9), np.int64))
    pred = np.where(label >= 0, label, rng.integers(0, 3, label.shape))
    counts = BoundaryCounts(3)
    counts.update(pred, label)
    assert counts.mean_iou() == 1


def test_images_of_any_height_are_looked_at_in_bands_without_a_seam():
    label = np.zeros((600, 20), np.int64)
    label[255:300] = 1  # its contour is where two bands meet
    counts = BoundaryCounts(2)
    counts.update(label, label)
    distance = contour_distance(600, 20)
    assert distance == 12
    assert counts.counts[1].tolist() == [600 * 20 - 45 * 20, 45 * 20]  # all is near the left or right border
    label = np.zeros((600, 60), np.int64)
    label[256:] = 1
    counts = BoundaryCounts(2)
    counts.update(label, label)
    assert counts.counts[1].tolist() == [256 * 60 - (256 - 24) * 36, 344 * 60 - (344 - 24) * 36]


def test_nothing_labelled_has_no_score_and_more_classes_than_a_byte_holds_are_fine():
    counts = BoundaryCounts(300)
    counts.update(np.zeros((4, 4)), np.full((4, 4), -1))
    assert np.isnan(counts.mean_iou())
    counts.update(np.full((4, 4), 299), np.full((4, 4), 299))
    assert counts.iou()[299] == 1
    assert np.isnan(counts.iou()[:299]).all()


def test_maps_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"pred has shape \(2, 3\) and label \(3, 2\)"):
        BoundaryCounts(2).update(np.zeros((2, 3)), np.zeros((3, 2)))
