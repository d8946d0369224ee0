import io

import numpy as np
import pytest
from PIL import Image

from mit_semseg.metrics.confusion import ConfusionMatrix
from mit_semseg.report.examples import Confusion, Examples, largest_confusions
from mit_semseg.report.thumbnails import thumbnails

COLORS = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
PHOTO = np.full((1, 10, 3), 100, np.uint8)


def offer(examples, index, right):
    """An image of ten pixels of class 0, of which so many are right."""
    label = np.zeros((1, 10), np.int64)
    prediction = (np.arange(10) >= right)[None].astype(np.int64)
    matrix = ConfusionMatrix(3)
    matrix.update(prediction, label)
    example = examples.judge(index, f"{index}.jpg", PHOTO, label, prediction, matrix, COLORS)
    if example is not None:
        examples.add(example)


def decode(content):
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_the_worst_and_the_best_of_three_by_hand():
    examples = Examples()
    for index, right in enumerate((5, 10, 8)):
        offer(examples, index, right)
    assert [example.index for example in examples.worst()] == [0, 2]
    assert [example.index for example in examples.best()] == [1]
    worst = examples.worst()[0]
    assert (worst.name, worst.mean_iou, worst.pixel_accuracy) == ("0.jpg", 0.25, 0.5)
    assert worst.confusion == Confusion(truth=0, guess=1, pixels=5, labelled=10)
    assert worst.confusion.share == 0.5
    assert examples.best()[0].confusion is None


def test_of_many_six_are_kept_on_either_side_and_equals_go_by_their_place_in_the_list():
    examples = Examples()
    for index in range(40):
        offer(examples, index, right=index % 10 + 1)
    assert [example.index for example in examples.worst()] == [0, 10, 20, 30, 1, 11]
    assert [example.index for example in examples.best()] == [39, 29, 19, 9, 38, 28]


def test_shares_of_a_list_come_to_the_same_as_the_whole():
    order = np.random.Generator(np.random.Philox(2)).integers(0, 11, 50).tolist()
    whole, joined = Examples(), Examples()
    for index, right in enumerate(order):
        offer(whole, index, right)
    for rank in (1, 2, 0):
        share = Examples()
        for index in range(rank, 50, 3):
            offer(share, index, order[index])
        joined.merge(share)
    assert joined.worst() == whole.worst()
    assert joined.best() == whole.best()


def test_an_image_without_a_labelled_pixel_is_left_out():
    examples = Examples()
    label = np.full((1, 10), -1)
    assert examples.judge(0, "a.jpg", PHOTO, label, np.zeros_like(label), ConfusionMatrix(3), COLORS) is None


def test_confusions_are_ordered_by_pixels_or_by_their_share_of_the_class():
    counts = np.array([[900, 60, 40], [0, 7, 3], [0, 0, 0]])
    assert [(c.truth, c.guess) for c in largest_confusions(counts, 9)] == [(0, 1), (0, 2), (1, 2)]
    by_share = largest_confusions(counts, 2, by_share=True)
    assert [(c.truth, c.guess, c.share) for c in by_share] == [(1, 2, 0.3), (0, 1, 0.06)]
    assert [c.truth for c in largest_confusions(counts, 2, by_share=True, least_share=0.02)] == [0, 0]
    assert largest_confusions(np.diag([3, 4]), 5) == []


def test_thumbnails_show_classes_in_their_colours_and_errors_in_red():
    photo = np.full((8, 32, 3), 100, np.uint8)
    label, prediction = (np.repeat([row] * 8, 8, axis=1) for row in ([0, 1, -1, 2], [0, 2, 1, 2]))
    pictures = thumbnails(photo, label, prediction, COLORS)
    assert decode(pictures.truth)[0, ::8].tolist() == [[200, 0, 0], [0, 200, 0], [0, 0, 0], [0, 0, 200]]
    assert decode(pictures.prediction)[7, ::8].tolist() == [
        [200, 0, 0],
        [0, 0, 200],
        [0, 200, 0],
        [0, 0, 200],
    ]
    errors = decode(pictures.errors)[4, 4::8].astype(int)  # the middle of each block
    assert (errors[:, 0] - errors[:, 2] > 60).tolist() == [False, True, False, False]
    assert errors[2].max() < errors[3].min()  # unlabelled is darker


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 1), (1, 1)), ((3000, 2), (320, 1)), ((480, 640), (240, 320))]
)
def test_large_pictures_are_made_small_and_small_ones_stay(shape, expected):
    label = np.zeros(shape, np.int64)
    pictures = thumbnails(np.zeros((*shape, 3), np.uint8), label, label, COLORS)
    assert {decode(picture).shape[:2] for picture in pictures} == {expected}


def test_more_classes_than_a_palette_holds():
    label = np.arange(300)[None]
    colors = np.random.Generator(np.random.Philox(0)).integers(0, 256, (300, 3)).astype(np.uint8)
    pictures = thumbnails(np.zeros((1, 300, 3), np.uint8), label, label, colors)
    np.testing.assert_array_equal(decode(pictures.truth)[0], colors)
