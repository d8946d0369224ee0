"""What values suggest, and that no advice leads back to where it was given."""

from itertools import product

import numpy as np
import pytest

from mit_semseg.data.label_coding import LabelCoding
from mit_semseg.data.label_diagnosis import diagnose, spelled


def counted(values, edge=()):
    """Distinct values and their pixels: 100 of each, but one of those on an edge."""
    present = sorted({*values, *edge})
    return np.array(present), np.array([1 if value in edge else 100 for value in present])


def found(values, *, edge=(), **coding):
    return diagnose(*counted(values, edge), LabelCoding(**coding))


def followed(values, counts, coding, remedy):
    """The values, their counts and the coding after a user has done what a remedy says."""
    if remedy.map is None:
        return (
            values,
            counts,
            LabelCoding(
                remedy.num_class or coding.num_class,
                coding.offset if remedy.label_offset is None else remedy.label_offset,
                coding.ignore if remedy.ignore is None else remedy.ignore,
            ),
        )
    offset = 1 if remedy.label_offset is None else remedy.label_offset
    rest = remedy.map.get(None)
    made = np.zeros(2**16 + 1, np.int64)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        label = remedy.map.get(value, max(value - offset + 1, 0) if rest is None else rest)
        made[label] += count
    classes = np.flatnonzero(made)
    num_class = None if coding.num_class is None else max(coding.num_class, *remedy.map.values())
    return classes, made[classes], LabelCoding(num_class)


SETS = [
    *([0], [1], [255], [0, 1], [0, 2], [1, 2], [0, 255], [1, 255], [0, 65535], [0, 100], [0, 127, 255]),
    *([0, 85, 170, 255], [0, 64, 128, 192], [20, 40, 80], [0, 1, 2, 3], [1, 2, 3], [1, 2, 3, 4], [0, 7]),
    *([0, 1, 2, 255], [0, 1, 2, 7, 255], [254, 255], [0, 254, 255], [0, 300], list(range(256)), [0, 150]),
    *([0, 20, 40, 255], [0, 1, 255, 65535], list(range(0, 256, 5)), [3, 4], [0, 128, 255], [2]),
]
CODINGS = [
    LabelCoding(num_class, offset, ignore)
    for num_class, offset, ignore in product((None, 1, 2, 3, 150), (0, 1, 2), (None, 0, 255))
]


@pytest.mark.parametrize("present", SETS, ids=spelled)
@pytest.mark.parametrize("edge", [(), (3, 70, 130, 200, 251)], ids=["", "edges"])
def test_whoever_follows_an_advice_meets_another_cause_or_none(present, edge):
    """Every chain of remedies, under every coding, ends; no diagnosis comes twice on the way."""

    def follow(values, counts, coding, met):
        diagnosis = diagnose(values, counts, coding)
        if diagnosis is None:
            return
        assert diagnosis.says not in met, (present, coding, met, diagnosis)
        assert len(met) < 5, (present, met, diagnosis)
        for remedy in diagnosis.remedies:
            follow(*followed(values, counts, coding, remedy), [*met, diagnosis.says])

    for coding in CODINGS:
        follow(*counted(present, edge if len(present) > 1 else ()), coding, [])


@pytest.mark.parametrize(
    ("values", "coding", "kind", "first_way"),
    [
        ([0, 255], {"num_class": 2}, "binary_mask", '--map "0:1, 255:2"'),
        ([0, 255], {}, "binary_mask", '--map "0:1, 255:2"'),
        ([0, 200], {}, "binary_mask", '--map "0:1, 200:2"'),
        ([0, 127, 255], {}, "scaled", '--map "0:1, 127:2, 255:3"'),
        ([0, 128, 255], {"num_class": 3}, "scaled", '--map "0:1, 128:2, 255:3"'),
        ([20, 40, 60], {}, "scaled", '--map "20:1, 40:2, 60:3"'),
        ([0, 1, 2, 255], {"num_class": 2}, "beyond", "--ignore 255"),
        ([1, 2, 3], {"num_class": 3, "offset": 0}, "beyond", "--label-offset 1"),
        ([0], {}, "nothing_labelled", "--label-offset 0"),
        ([0, 255], {"ignore": 255}, "nothing_labelled", '--map "0:1, 255:2"'),
        ([0, 1], {"num_class": 2}, "one_class", "--label-offset 0"),
        ([0, 1, 2], {"num_class": 3}, "off_by_one", "--label-offset 0"),
    ],
)
def test_each_cause_has_its_name_and_its_way_out(values, coding, kind, first_way):
    diagnosis = found(values, **coding)
    assert diagnosis.kind == kind
    assert diagnosis.remedies[0].as_options() == first_way
    assert diagnosis.for_prepare()


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([0, 1, 2, 3], {}),
        ([0, 1, 2, 3], {"num_class": 3}),
        ([1, 2], {"num_class": 150}),
        ([0, 2, 4], {}),
        ([0, 7, 8, 9, 33], {}),
        ([0, 1, 255], {"num_class": 2, "offset": 0, "ignore": 255}),
        (list(range(256)), {}),
        ([0, 127, 255], {"num_class": 255}),
    ],
)
def test_class_numbers_are_left_alone(values, coding):
    assert found(values, **coding) is None


def test_a_mask_with_soft_edges_is_told_from_classes():
    soft = found([0, 255], edge=(7, 66, 90, 140, 180, 199, 250))
    assert soft.kind == "soft_edges"
    assert soft.remedies[0].as_options() == '--map "0:1, 255:2, *:0"'
    # Compression mixes values near both ends only.
    assert found([0, 255], edge=(1, 2, 3, 252, 253, 254)).kind == "soft_edges"
    # As Pascal VOC's labels: much background, few pixels of other classes, and 255 for borders.
    assert found([0, 255], edge=range(1, 21)).says == "hold 255, which usually stands for unlabelled"


def test_the_ways_out_of_a_config_are_its_keys_or_a_command():
    ways = found([0, 255], num_class=2).for_config()
    assert ways == (
        "To make the background class 1 and the object class 2: mit-semseg data prepare folders SOURCE OUT "
        '--map "0:1, 255:2". If 255 stands for unlabelled and 0 for a class, set DATASET.ignore_label 255 '
        "DATASET.label_offset 0."
    )
