import json

import numpy as np

from mit_semseg.data.classes import ClassTable, palette
from mit_semseg.engine.evaluation.scored import from_json, to_json
from mit_semseg.engine.evaluation.tally import Tally

TABLE = ClassTable(("sky", "car", "train"), palette(3))


def same(one, other):
    for part in ("matrix", "boundary", "calibration"):
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
            scored = tally.score(5, item, labels, prediction, confidence)
            same(from_json(json.loads(json.dumps(to_json(scored))), 3), scored)


def test_including_the_results_in_any_order_is_adding_the_images():
    rng = np.random.Generator(np.random.Philox(9))
    tally, replayed = Tally(TABLE), Tally(TABLE)
    kept = []
    for index in range(30):
        item = {"info": f"{index}.jpg", "img_ori": np.zeros((2, 9, 3), np.uint8)}
        kept.append(tally.score(index, item, rng.integers(0, 3, (2, 9)), rng.integers(0, 3, (2, 9))))
        tally.include(kept[-1])
    assert any(scored.example is None for scored in kept)
    for scored in kept[::-1]:
        replayed.include(from_json(to_json(scored), 3))
    assert replayed.examples.worst() == tally.examples.worst()
    assert replayed.examples.best() == tally.examples.best()
    np.testing.assert_array_equal(replayed.images.columns()[1], tally.images.columns()[1])
