"""COCO's run lengths: computed by hand, and compared with pycocotools where it is installed."""

import json
from pathlib import Path

import numpy as np
import pytest

from mit_semseg.data import rle

SAMPLE = Path(__file__).resolve().parents[2].parent / "shared/data/coco_sample/annotations"


def test_runs_go_down_the_columns_and_begin_with_zeros():
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    assert rle.encode(mask).tolist() == [2, 3, 1]
    assert rle.encode(~mask).tolist() == [0, 2, 3, 1]
    assert (rle.decode([0, 2, 3, 1], 2, 3) == ~mask).all()


def test_the_text_holds_five_bits_a_character_and_differences_from_the_fourth_run_on():
    # 2, 3, 1 are single characters; the fourth run, 40, is written as 40 - 3 = 37: 5 + 32 "more", then 1.
    assert rle.to_text([2, 3, 1]) == "231"
    assert rle.to_text([2, 3, 1, 40]) == "231" + chr(48 + 5 + 32) + chr(48 + 1)
    # 1 - 3 = -2 is 30 in five bits, whose highest one is the sign.
    assert rle.to_text([2, 3, 1, 1]) == "231" + chr(48 + 30)
    assert rle.from_text("231" + chr(48 + 30)).tolist() == [2, 3, 1, 1]


def test_any_mask_survives_both_ways():
    random = np.random.default_rng(0)
    for height, width, share in random.random((100, 3)):
        mask = random.random((1 + int(40 * height), 1 + int(40 * width))) < share
        runs = rle.encode(mask)
        assert (rle.decode(rle.from_text(rle.to_text(runs)), *mask.shape) == mask).all()


@pytest.mark.parametrize(
    ("runs", "says"),
    [([1, 2], "they have 3 pixels, but the mask has 4"), ([5, -1], "not numbers of at least 0")],
)
def test_runs_that_do_not_fill_the_mask_are_refused(runs, says):
    with pytest.raises(ValueError, match=says):
        rle.decode(runs, 2, 2)


@pytest.mark.parametrize("text", ["\x10", "a", "é"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"does not occur|ends within a number"):
        rle.from_text(text)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # by pycocotools
def test_masks_agree_with_pycocotools():
    tool = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(1)
    for height, width, share in random.random((100, 3)):
        mask = random.random((1 + int(60 * height), 1 + int(60 * width))) < share
        theirs = tool.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle.to_text(rle.encode(mask)) == theirs["counts"].decode()
        assert (rle.decode(rle.from_text(theirs["counts"].decode()), *mask.shape) == mask).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # by pycocotools
@pytest.mark.skipif(not SAMPLE.exists(), reason="needs the sample of COCO")
def test_crowds_of_coco_agree_with_pycocotools():
    tool = pytest.importorskip("pycocotools.mask")
    crowds = 0
    for path in SAMPLE.glob("*.json"):
        for one in json.loads(path.read_text())["annotations"]:
            if one["iscrowd"]:
                height, width = one["segmentation"]["size"]
                theirs = tool.decode(tool.frPyObjects(one["segmentation"], height, width))
                assert (rle.decode(one["segmentation"]["counts"], height, width) == theirs).all()
                crowds += 1
    assert crowds == 5


def test_each_class_of_a_label_map_has_the_runs_of_its_mask():
    rng = np.random.Generator(np.random.Philox(5))
    for height, width, classes, scale in (
        (1, 1, 1, 1),
        (1, 9, 2, 1),
        (9, 1, 3, 1),
        (7, 5, 4, 3),
        (3, 4, 2, 50),
    ):
        labels = np.kron(rng.integers(0, classes, (height, width)), np.ones((scale, scale), int))
        runs = dict(rle.encode_classes(labels))
        assert runs.keys() == set(np.unique(labels))
        for k, own in runs.items():
            assert own.tolist() == rle.encode(labels == k).tolist()


def test_the_texts_of_classes_are_those_of_pycocotools():
    """Recorded with pycocotools 2.0."""
    blocks = np.kron(np.array([[0, 1, 2], [2, 0, 1]]), np.ones((7, 3), int))
    wide = np.zeros((450, 600), int)  # runs of several characters, with large differences
    wide[:, 100:200] = wide[:, 300] = 1
    for labels, texts in (
        (blocks, {0: "07700070I000S1", 1: "Z17700070I000", 2: "777000S10mN0000"}),
        (wide, {0: "0Xn[1Xn[10j_dN^^g2", 1: "Xn[1Xn[1Xn[1j_dN^^g2"}),
    ):
        assert {k: rle.to_text(runs) for k, runs in rle.encode_classes(labels)} == texts
