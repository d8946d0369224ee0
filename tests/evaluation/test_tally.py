import json

import numpy as np
import pytest

from mit_semseg.data.classes import ClassTable, palette
from mit_semseg.evaluation.tally import ImageResult, Tally

TABLE = ClassTable(("sky", "car", "train"), palette(3))


def same(one, other):
    for part in ("matrix", "boundary", "calibration", "threshold"):
        a, b = getattr(one, part), getattr(other, part)
        assert (a is None) == (b is None)
        assert a is None or (a.counts == b.counts).all()
    assert (one.index, one.example) == (other.index, other.example)


def test_a_result_comes_back_from_its_text_to_the_last_digit():
    rng = np.random.Generator(np.random.Philox(8))
    label, prediction = rng.integers(-1, 3, (2, 7, 9)).clip([[[-1]], [[0]]])
    item = {"info": "a \udcff.jpg", "img_ori": np.zeros((7, 9, 3), np.uint8)}
    confidence = rng.random((7, 9), np.float32)
    for asked in (False, True):
        tally = Tally(TABLE, boundary=asked, calibration=asked)
        for labels in (label, np.full_like(label, -1), np.maximum(prediction, 0)):
            result = tally.score(5, item, labels, prediction, confidence)
            same(ImageResult.from_json(json.loads(json.dumps(result.to_json())), 3), result)
    two = Tally(ClassTable(("sky", "car"), palette(2)), threshold=True)
    result = two.score(5, item, np.minimum(label, 1), np.clip(prediction, 0, 1), confidence)
    same(ImageResult.from_json(json.loads(json.dumps(result.to_json())), 2), result)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("index", "5"),
            ("index", None),
            ("matrix", None),
            ("matrix", [[0], [1.5]]),
            ("matrix", [[-1], [3]]),
        ),
        *(
            ("matrix", [[9], [3]]),
            ("matrix", "x"),
            ("boundary", {}),
            ("example", 7),
            ("example", {"name": "a"}),
        ),
    ],
)
def test_a_text_that_no_result_has_is_refused(key, value):
    label = np.array([[0, 1, 2]])
    item = {"info": "a.jpg", "img_ori": np.zeros((1, 3, 3), np.uint8)}
    stored = Tally(TABLE).score(5, item, label, label).to_json()
    same(ImageResult.from_json(stored, 3), Tally(TABLE).score(5, item, label, label))
    with pytest.raises((KeyError, IndexError, TypeError, ValueError, AttributeError)):
        ImageResult.from_json({**stored, key: value}, 3)


@pytest.mark.parametrize(
    "change", [{"name": 3}, {"mean_iou": "x"}, {"confusion": {"truth": 1}}, {"pictures": ["?"]}]
)
def test_an_example_that_no_result_has_is_refused(change):
    label = np.array([[0, 1, 2]])
    item = {"info": "a.jpg", "img_ori": np.zeros((1, 3, 3), np.uint8)}
    stored = Tally(TABLE).score(5, item, label, label).to_json()
    with pytest.raises((KeyError, TypeError, ValueError)):
        ImageResult.from_json({**stored, "example": {**stored["example"], **change}}, 3)


def test_including_the_results_in_any_order_is_adding_the_images():
    rng = np.random.Generator(np.random.Philox(9))
    tally, replayed = Tally(TABLE), Tally(TABLE)
    kept = []
    for index in range(30):
        item = {"info": f"{index}.jpg", "img_ori": np.zeros((2, 9, 3), np.uint8)}
        kept.append(tally.score(index, item, rng.integers(0, 3, (2, 9)), rng.integers(0, 3, (2, 9))))
        tally.include(kept[-1])
    assert any(result.example is None for result in kept)
    for result in kept[::-1]:
        replayed.include(ImageResult.from_json(result.to_json(), 3))
    assert replayed.examples.worst() == tally.examples.worst()
    assert replayed.examples.best() == tally.examples.best()
    np.testing.assert_array_equal(replayed.images.columns()[1], tally.images.columns()[1])
