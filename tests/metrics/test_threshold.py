"""Precision, recall and F1 by threshold, against their definitions."""

import numpy as np
import pytest

from mit_semseg.metrics.threshold import PrecisionRecall


def test_four_pixels_by_hand():
    counts = PrecisionRecall()
    # The second class has the probabilities 0.9, 0.6, 0.4 (1 - 0.6) and 0.2; the last pixel is unlabelled.
    counts.update([1, 1, 0, 0, 1], [0.9, 0.6, 0.6, 0.8, 0.7], [1, 0, 1, 0, -1])
    at = {point.threshold: point for point in counts.curve()}
    assert at[0.2][1:] == pytest.approx((2 / 4, 1, 2 / 3))
    assert at[0.3][1:] == pytest.approx((2 / 3, 1, 4 / 5))
    assert at[0.4][1:] == at[0.3][1:]  # a pixel on the threshold belongs to the class
    assert at[0.5][1:] == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert at[0.7][1:] == pytest.approx((1, 1 / 2, 2 / 3))
    assert np.isnan(at[0.95].precision)
    assert (at[0.95].recall, at[0.95].f1) == (0, 0)
    assert counts.best() == at[0.4]  # of 0.201 to 0.4, the nearest to 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_counts_at_a_threshold_are_those_of_the_pixels_above_it(dtype):
    rng = np.random.Generator(np.random.Philox(3))
    probability, label = rng.random((40, 50)).astype(dtype), rng.integers(-1, 2, (40, 50))
    probability.flat[:1001] = np.arange(1001) / 1000  # the thresholds themselves
    pred = probability >= 0.5
    counts = PrecisionRecall()
    for rows in (slice(0, 7), slice(7, 40)):
        counts.update(pred[rows], np.where(pred, probability, 1 - probability)[rows], label[rows])
    for point in counts.curve()[::7]:
        chosen = (probability >= dtype(point.threshold)) & (label >= 0)
        right = (chosen & (label == 1)).sum()
        assert point.precision == right / chosen.sum()
        assert point.recall == right / (label == 1).sum()
        assert point.f1 == pytest.approx(2 / (1 / point.precision + 1 / point.recall))


def test_without_a_pixel_of_the_class_there_is_no_best_threshold():
    counts = PrecisionRecall()
    counts.update([0, 1], [0.9, 0.8], [0, 0])
    assert counts.best() is None
    assert np.isnan(counts.curve()[0].recall)
