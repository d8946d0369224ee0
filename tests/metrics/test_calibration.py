"""The expected calibration error against its definition, pixel by pixel in float64."""

import numpy as np
import pytest

from mit_semseg.metrics.calibration import Calibration


def by_definition(pred, confidence, label):
    bins = [[] for _ in range(15)]
    for p, c, t in zip(pred.ravel(), confidence.ravel().astype(np.float64), label.ravel(), strict=True):
        if t >= 0:
            (m,) = (m for m in range(15) if m / 15 < c <= (m + 1) / 15)
            bins[m].append((p == t, c))
    total = sum(map(len, bins))
    return sum(
        len(members) / total * abs(np.mean([hit for hit, _ in members]) - np.mean([c for _, c in members]))
        for members in bins
        if members
    )


def drawn(seed, size=4000):
    rng = np.random.Generator(np.random.Philox(seed))
    confidence = rng.uniform(0.05, 1, size).astype(np.float32)
    label = rng.integers(-1, 4, size)
    pred = np.where(rng.random(size) < confidence**2, label, rng.integers(0, 4, size))
    return np.maximum(pred, 0), confidence, label


def test_three_pixels_by_hand():
    calibration = Calibration()
    # Two of a probability in (0.7333, 0.8], one of them right; one of 0.25; one that is not labelled.
    calibration.update([1, 1, 0, 0], [0.75, 0.78125, 0.25, 1], [1, 0, 0, -1])
    assert calibration.error() == pytest.approx((abs(1 - 0.75 - 0.78125) + abs(1 - 0.25)) / 3)
    assert calibration.counts[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]
    filled = calibration.bins()[11]
    assert filled == {
        "low": 11 / 15,
        "high": 12 / 15,
        "pixels": 2,
        "accuracy": 0.5,
        "confidence": (0.75 + 0.78125) / 2,
    }


def test_it_is_what_the_definition_says():
    calibration = Calibration()
    calibration.update(*drawn(1))
    assert calibration.error() == pytest.approx(by_definition(*drawn(1)), abs=1e-7)
    assert calibration.error() > 0.05


def test_the_sum_is_exact_in_any_order():
    images = [drawn(seed) for seed in range(5)]
    one, other = Calibration(), Calibration()
    for image in images:
        one.update(*image)
    for image in images[::-1]:
        other.update(*(values[::-1] for values in image))
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.error() == other.error()


def test_large_images_are_summed_in_parts_without_a_loss():
    size = 2**22 + 5
    calibration = Calibration()
    calibration.update(np.ones(size, np.uint8), np.full(size, 1 - 2**-24, np.float32), np.ones(size, np.int8))
    assert calibration.counts[:, 14].tolist() == [size, size, size * (2**24 - 1)]


def test_probabilities_at_the_ends_and_none_at_all():
    calibration = Calibration()
    calibration.update([0, 0, 0, 0], np.float32([0, 1, 1.0000001, np.nan]), [0, 0, 0, 0])
    assert calibration.counts[0, [0, 14]].tolist() == [2, 2]
    assert np.isnan(Calibration().error())
    assert np.isnan([part["accuracy"] for part in Calibration().bins()]).all()


def test_maps_of_two_shapes_are_refused():
    with pytest.raises(
        ValueError, match=r"have shapes \(2,\), \(3,\) and \(2,\), but must have the same shape"
    ):
        Calibration().update([0, 0], [1, 1, 1], [0, 0])
