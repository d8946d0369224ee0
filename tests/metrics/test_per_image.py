import numpy as np

from mit_semseg.metrics.bootstrap import ImageCounts
from mit_semseg.metrics.confusion import ConfusionMatrix


def matrix_of(pred, label, num_class=4):
    matrix = ConfusionMatrix(num_class)
    matrix.update(pred, label)
    return matrix


def test_counts_by_hand():
    counts = ImageCounts(4)
    counts.add(0, matrix_of(pred=[0, 0, 3], label=[0, 3, 3]))
    counts.add(1, matrix_of(pred=[1, 1], label=[-1, -1]))  # nothing is labelled
    counts.add(2, matrix_of(pred=[2], label=[2]))
    positions, columns = counts.columns()
    assert len(counts) == 3
    assert positions.tolist() == [0, 0, 2]
    assert columns.T.tolist() == [[0, 1, 1, 2], [3, 1, 2, 1], [2, 1, 1, 1]]


def test_shares_of_a_list_join_to_the_whole_in_any_order():
    rng = np.random.Generator(np.random.Philox(3))
    matrices = [matrix_of(*rng.integers(0, 4, (2, 9))) for _ in range(7)]
    whole, joined = ImageCounts(4), ImageCounts(4)
    for index, matrix in enumerate(matrices):
        whole.add(index, matrix)
    for rank in (2, 0, 1):
        share = ImageCounts(4)
        for index in range(rank, 7, 3):
            share.add(index, matrices[index])
        joined.merge(share)
    for a, b in zip(whole.columns(), joined.columns(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_image_makes_empty_columns():
    positions, columns = ImageCounts(4).columns()
    assert positions.shape == (0,)
    assert columns.shape == (4, 0)
