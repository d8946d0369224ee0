import math

import numpy as np
import pytest

from mit_semseg.metrics.bootstrap import ImageCounts, Interval, mean_iou_interval
from mit_semseg.metrics.confusion import ConfusionMatrix


def counts_of(*images, num_class=3):
    """Counts of images given as (pred, label)."""
    counts = ImageCounts(num_class)
    for index, (pred, label) in enumerate(images):
        matrix = ConfusionMatrix(num_class)
        matrix.update(pred, label)
        counts.add(index, matrix)
    return counts


RIGHT, WRONG = ([0, 0], [0, 0]), ([1, 1], [0, 0])


def random_images(number, seed=5):
    rng = np.random.Generator(np.random.Philox(seed))
    return [(rng.integers(0, 3, 20), rng.integers(-1, 3, 20)) for _ in range(number)]


def test_two_images_by_hand():
    # Drawn are both right (1.0), one of each (class 0: 1/2, class 1: 0; mean 0.25), or both wrong (0.0).
    interval = mean_iou_interval(counts_of(RIGHT, WRONG))
    assert interval == Interval(0.0, 1.0, level=0.95, resamples=1000, seed=0)
    half = mean_iou_interval(counts_of(RIGHT, WRONG), level=0.4)  # one in two draws is one of each
    assert (half.low, half.high) == (0.25, 0.25)


def test_images_that_are_all_alike_leave_nothing_to_vary():
    interval = mean_iou_interval(counts_of(*[([0, 1, 1], [0, 0, 1])] * 5))
    assert interval.low == interval.high == 0.5


def test_it_is_what_scoring_each_list_drawn_gives():
    images = random_images(12)
    random = np.random.Generator(np.random.Philox(9))
    scores = []
    for _ in range(50):
        matrix = ConfusionMatrix(3)
        for k in random.integers(12, size=12):
            matrix.update(*images[k])
        scores.append(matrix.mean_iou())
    interval = mean_iou_interval(counts_of(*images), resamples=50, seed=9)
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(scores, [0.025, 0.975]), rtol=1e-14)


def test_it_holds_the_score_and_narrows_with_more_images():
    few, many = (mean_iou_interval(counts_of(*random_images(number))) for number in (20, 400))
    whole = ConfusionMatrix(3)
    for pred, label in random_images(400):
        whole.update(pred, label)
    assert many.low < whole.mean_iou() < many.high
    assert many.high - many.low < (few.high - few.low) / 3


def test_the_seed_alone_decides_and_not_how_many_are_drawn_at_once(monkeypatch):
    counts = counts_of(*random_images(10))
    first = mean_iou_interval(counts, seed=1)
    assert first == mean_iou_interval(counts, seed=1)
    assert first != mean_iou_interval(counts, seed=2)
    monkeypatch.setattr("mit_semseg.metrics.bootstrap._DRAWS_AT_ONCE", 70)
    again = mean_iou_interval(counts, seed=1)
    assert (again.low, again.high) == pytest.approx((first.low, first.high), rel=1e-14)


def test_rare_classes_do_not_push_the_interval_below_the_score():
    # Twenty classes of two images each, which one in eight lists drawn has none of; other images are taken
    # for each of them in part. With those classes at 0, the interval ended below the score.
    rng = np.random.Generator(np.random.Philox(6))
    images, whole = [], ConfusionMatrix(20)
    for k in [*range(20), *range(20)]:
        label = np.full(40, k)
        images.append((np.where(rng.random(40) < 0.8, label, rng.integers(0, 20, 40)), label))
        whole.update(*images[-1])
    interval = mean_iou_interval(counts_of(*images, num_class=20))
    assert interval.low < whole.mean_iou() < interval.high


@pytest.mark.parametrize("images", [[], [RIGHT], [([0], [-1])] * 3])
def test_there_is_no_interval_without_two_images_or_a_labelled_pixel(images):
    interval = mean_iou_interval(counts_of(*images))
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_draws_without_a_labelled_pixel_do_not_count():
    interval = mean_iou_interval(counts_of(RIGHT, ([0], [-1])))
    assert interval.low == interval.high == 1
