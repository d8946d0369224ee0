import math

import numpy as np
import pytest

from mit_semseg.metrics.confusion import (
    METRICS,
    AverageMeter,
    ConfusionMatrix,
    accuracy,
    intersectionAndUnion,
)


def random_pair(num_class, shape=(37, 29), seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    return rng.integers(0, num_class, shape), rng.integers(-1, num_class, shape)


def matrix_of(pred, label, num_class):
    matrix = ConfusionMatrix(num_class)
    matrix.update(pred, label)
    return matrix


# By hand: three classes, of which class 2 never occurs; one pixel is ignored.
LABEL = np.array([[0, 0, 0], [1, 1, -1]])
PRED = np.array([[0, 0, 1], [1, 0, 2]])


def test_counts_by_hand():
    assert matrix_of(PRED, LABEL, 3).counts.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_scores_by_hand():
    matrix = matrix_of(PRED, LABEL, 3)
    np.testing.assert_allclose(matrix.iou(), [2 / 4, 1 / 3, np.nan])
    np.testing.assert_allclose(matrix.recall(), [2 / 3, 1 / 2, np.nan])
    scores = {name: metric(matrix) for name, metric in METRICS.items()}
    assert scores == pytest.approx(
        {
            "mean_iou": (1 / 2 + 1 / 3) / 2,
            "mean_iou_all": (1 / 2 + 1 / 3) / 3,
            "pixel_accuracy": 3 / 5,
            "mean_accuracy": (2 / 3 + 1 / 2) / 2,
            "frequency_weighted_iou": (3 * 1 / 2 + 2 * 1 / 3) / 5,
            "dice": (4 / 6 + 2 / 4) / 2,
        }
    )
    np.testing.assert_allclose(matrix.precision(), [2 / 3, 1 / 2, np.nan])
    np.testing.assert_allclose(matrix.dice(), [4 / 6, 2 / 4, np.nan])
    assert [margin.tolist() for margin in matrix.margins()] == [[2, 1, 0], [3, 2, 0], [3, 2, 0]]


def test_dice_is_the_harmonic_mean_of_precision_and_recall():
    matrix = matrix_of(*random_pair(6), 6)
    precision, recall = matrix.precision(), matrix.recall()
    np.testing.assert_allclose(matrix.dice(), 2 * precision * recall / (precision + recall))


def test_labels_below_minus_one_are_ignored_like_minus_one():
    pred, label = random_pair(5)
    lower = np.where(label == -1, -7, label)
    np.testing.assert_array_equal(matrix_of(pred, lower, 5).counts, matrix_of(pred, label, 5).counts)
    unsigned = np.where(label == -1, 0, label).astype(np.uint8)
    counts = matrix_of(pred.astype(np.uint8), unsigned, 5).counts
    np.testing.assert_array_equal(counts, matrix_of(pred, unsigned.astype(int), 5).counts)


def test_the_mean_is_over_classes_that_occur_in_label_or_prediction():
    # It was over all classes, so that a perfect result on an image of two classes of 150 scored 0.013.
    label = np.array([[0, 0], [3, -1]])
    matrix = matrix_of(np.abs(label), label, 150)
    assert matrix.mean_iou() == 1
    assert matrix.mean_iou_all() == pytest.approx(2 / 150)
    matrix.update(np.array([7]), np.array([0]))  # class 7 occurs now, and is wrong
    np.testing.assert_allclose(matrix.iou()[[0, 3, 7]], [2 / 3, 1, 0])
    assert matrix.mean_iou() == pytest.approx(5 / 9)
    assert matrix.mean_accuracy() == pytest.approx((2 / 3 + 1) / 2)  # class 7 has no pixel to be found


def test_where_every_class_occurs_both_means_agree():
    matrix = matrix_of(*random_pair(5), 5)
    assert matrix.mean_iou() == pytest.approx(matrix.mean_iou_all())


def test_the_sum_is_exact_in_any_order_and_any_parts():
    pred, label = random_pair(11, shape=(12, 20, 20))
    whole = matrix_of(pred, label, 11).counts
    for parts in (3, 12):
        total = ConfusionMatrix(11)
        for k in reversed(range(parts)):
            total.counts += matrix_of(pred[k::parts], label[k::parts], 11).counts
        np.testing.assert_array_equal(total.counts, whole)
    assert whole.dtype == np.int64


def test_small_types_do_not_overflow():
    label = np.full((4,), 149, np.uint8)
    assert matrix_of(label, label, 150).counts[149, 149] == 4


def test_an_empty_matrix_has_no_scores_and_no_warnings():
    matrix = matrix_of(np.zeros(3, int), np.full(3, -1), 4)
    assert all(math.isnan(METRICS[name](matrix)) for name in METRICS if name != "mean_iou_all")
    assert matrix.mean_iou_all() == 0


@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        ([[0, 1]], [[0], [1]], r"^pred has shape \(1, 2\), but label has \(2, 1\)$"),
        ([0, 1], [0, 4], r"^label holds classes 0 to 4, but there are 3$"),
        ([5, 1], [0, 2], r"^pred holds classes 1 to 5, but there are 3$"),
        ([-1, 1], [0, 2], r"^pred holds classes -1 to 1, but there are 3$"),
    ],
)
def test_what_cannot_be_counted_is_refused_and_nothing_is_added(pred, label, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=message):
        matrix.update(pred, label)
    assert not matrix.counts.any()


def test_what_is_predicted_on_ignored_pixels_does_not_matter():
    matrix = matrix_of([99, -5, 1], [-1, -1, 1], 3)
    assert matrix.counts.sum() == matrix.counts[1, 1] == 1


# The functions of the old package


def test_intersection_and_union_by_hand():
    intersection, union = intersectionAndUnion(PRED, LABEL, 3)
    assert intersection.tolist() == [2, 1, 0]
    assert union.tolist() == [4, 3, 0]


def test_intersection_and_union_agree_with_sets():
    pred, label = random_pair(7)
    intersection, union = intersectionAndUnion(pred, label, 7)
    known = label >= 0
    for k in range(7):
        assert intersection[k] == ((pred == k) & (label == k)).sum()
        assert union[k] == (((pred == k) | (label == k)) & known).sum()


def test_inputs_stay_as_they_are():
    pred, label = PRED.copy(), LABEL.copy()
    intersectionAndUnion(pred, label, 3)
    accuracy(pred, label)
    np.testing.assert_array_equal(pred, PRED)
    np.testing.assert_array_equal(label, LABEL)


def test_accuracy_by_hand():
    assert accuracy(PRED, LABEL) == (3 / 5, 5)
    assert accuracy(PRED, np.full_like(LABEL, -1)) == (0.0, 0)


def test_average_meter_weighs_numbers_and_arrays():
    meter = AverageMeter()
    assert meter.average() is None
    meter.update(2.0)
    meter.update(5.0, weight=2)
    assert (meter.value(), meter.average(), meter.sum, meter.count) == (5, 4, 12, 3)

    meter, counts = AverageMeter(), np.array([1, 2])
    meter.update(counts)
    meter.update(np.array([3, 4]))
    assert meter.sum.tolist() == [4, 6]
    assert meter.average().tolist() == [2, 3]
    assert counts.tolist() == [1, 2]
