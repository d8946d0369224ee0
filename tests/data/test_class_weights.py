import math

import numpy as np
import pytest

from mit_semseg.data.class_weights import CLASS_WEIGHTS, ClassCounts, enet, median_frequency


def counted():
    """Class 0 in both labels, class 1 in the first, class 2 in the second, class 3 in none."""
    counts = ClassCounts(4)
    counts.add(np.array([60, 20, 0, 0]))
    counts.add(np.array([10, 0, 10, 0]))
    counts.add(np.array([0, 0, 0, 0]))  # without a labelled pixel
    return counts


def test_median_frequency_by_hand():
    # Frequencies in the labels that have the class: 70/100, 20/80, 10/20; their median is 1/2.
    np.testing.assert_allclose(median_frequency(counted(), 1.02), [0.5 / 0.7, 0.5 / 0.25, 1, 0])


@pytest.mark.parametrize("constant", [1.02, 1.1])
def test_enet_by_hand(constant):
    expected = [1 / math.log(constant + share) for share in (0.7, 0.2, 0.1)]
    np.testing.assert_allclose(enet(counted(), constant), [*expected, 0])


@pytest.mark.parametrize("name", CLASS_WEIGHTS)
def test_rare_classes_weigh_more_and_those_that_never_occur_nothing(name):
    counts = ClassCounts(5)
    counts.add(np.array([1000, 100, 10, 1, 0]))
    weights = CLASS_WEIGHTS[name](counts, 1.02)
    assert weights[0] < weights[1] < weights[2] < weights[3]
    assert weights[4] == 0
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("name", CLASS_WEIGHTS)
def test_one_class_alone_has_a_finite_weight(name):
    counts = ClassCounts(1)
    counts.add(np.array([7]))
    (weight,) = CLASS_WEIGHTS[name](counts, 1.02)
    assert weight == pytest.approx(1.0 if name == "median_frequency" else 1 / math.log(2.02))
