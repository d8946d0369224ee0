import numpy as np
import pytest

from mit_semseg.data.labels import LabelCoding
from mit_semseg.data.records import read_records
from mit_semseg.dataset_tools.check.decode import FileFacts
from mit_semseg.dataset_tools.check.examine import IMAGE, LABEL, PairFacts, compare
from mit_semseg.dataset_tools.check.findings import CheckedList
from mit_semseg.dataset_tools.check.summary import summarize
from mit_semseg.dataset_tools.check.tally import DatasetTally, repeats, repeats_of_others
from mit_semseg.dataset_tools.pool import WorkerDeath


def listed(name, *images, role="", **changes):
    records = [
        {"fpath_img": f"{k}.jpg", "fpath_segm": f"{k}.png", "width": 60, "height": 40, **changes}
        for k in images
    ]
    return CheckedList(name, "root", read_records(records), role)


def image(digest=0, width=60, height=40, orientation=1, **about):
    return FileFacts(digest=digest, width=width, height=height, mode="RGB", orientation=orientation, **about)


def label(counts=None, digest=0, width=60, height=40, mode="L", **about):
    counts = {1: 2400} if counts is None else counts
    values, numbers = (np.array(list(part), np.int64) for part in (counts.keys(), counts.values()))
    return FileFacts(
        digest=digest, width=width, height=height, mode=mode, values=values, counts=numbers, **about
    )


def tallied(lists, facts, **coding):
    tally = DatasetTally(lists, LabelCoding(**coding))
    for position, of_pair in enumerate(facts):
        tally.add(position, of_pair)
    tally.find_duplicates()
    return tally


def issues(summary):
    """{kind: [(list, line, file, detail), ...]}, without notes on the coding and on single classes."""
    found = {}
    for issue in (*summary.problems, *summary.notes):
        findings = issue.findings.unpacked(summary.checked)
        found[issue.kind] = [(each.list, each.line, each.path, each.detail) for each in findings]
    found.pop("num_class_inferred", None)
    found.pop("one_class", None)
    return found


def kinds(facts, in_list=(60, 40)):
    return [(kind, file) for kind, file, _ in compare(facts, in_list)]


@pytest.mark.parametrize(
    ("orientation", "label_size", "expected"),
    [
        (1, (60, 40), []),
        (1, (40, 60), [("size_mismatch", LABEL)]),
        (6, (40, 60), [("exif_rotated", IMAGE)]),
        (5, (60, 40), [("exif_stored", IMAGE)]),
        (8, (30, 20), [("size_mismatch", LABEL)]),
        (3, (60, 40), [("exif_undecided", IMAGE)]),
        (3, (40, 60), [("size_mismatch", LABEL)]),
    ],
)
def test_sizes_are_compared_as_stored_and_as_turned_upright(orientation, label_size, expected):
    facts = PairFacts(image(orientation=orientation), label(width=label_size[0], height=label_size[1]))
    assert kinds(facts) == expected


def test_a_square_image_does_not_show_whether_its_label_is_turned():
    facts = PairFacts(image(width=40, orientation=6), label(width=40))
    assert kinds(facts, (40, 40)) == [("exif_undecided", IMAGE)]


def test_the_list_is_compared_with_the_file():
    fine = PairFacts(image(), label())
    assert kinds(fine) == []
    assert kinds(fine, (40, 60)) == [("listed_size", IMAGE)]
    assert kinds(fine, (0, 0)) == [("no_size", IMAGE)]
    assert kinds(PairFacts(FileFacts("missing"), label()), (1, 1)) == [("missing", IMAGE)]


def test_repeats_name_the_first_of_their_kind():
    again, first = repeats(np.array([9, 4, 9, 0, 4, 9, 0], np.uint64))
    assert (again.tolist(), first.tolist()) == ([2, 4, 5], [0, 1, 0])
    assert repeats(np.zeros(3, np.uint64))[0].tolist() == []
    again, first = repeats_of_others(np.array([0, 4, 7], np.uint64), np.array([7, 0, 3, 7], np.uint64))
    assert (again.tolist(), first.tolist()) == ([2], [0])


def test_repeats_are_those_that_a_dictionary_would_find():
    digests = np.random.Generator(np.random.Philox(3)).integers(0, 300, 1000).astype(np.uint64)
    seen, expected = {}, []
    for position, digest in enumerate(digests.tolist()):
        if digest and seen.setdefault(digest, position) != position:
            expected.append((position, seen[digest]))
    assert list(zip(*(part.tolist() for part in repeats(digests)), strict=True)) == expected


def test_values_are_counted_by_class_and_list():
    tally = tallied(
        [listed("t", 1, 2), listed("v", 3)],
        [
            PairFacts(image(1), label({0: 400, 1: 2000})),
            PairFacts(image(2), label({1: 100, 3: 2300})),
            PairFacts(image(3), label({2: 2400})),
        ],
        num_class=3,
    )
    summary = summarize(tally, ["a", "b", "c"])
    assert summary.pixels[:, 1:4].tolist() == [[2100, 0, 2300], [0, 2400, 0]]
    assert summary.labels[:, :4].tolist() == [[1, 2, 0, 1], [0, 0, 1, 0]]
    assert [(about.pixels["unlabelled"], about.pixels["labelled"]) for about in summary.lists] == [
        (400, 4400),
        (0, 2400),
    ]
    assert issues(summary) == {"class_missing": []}
    assert summary.notes[0].facts == ("t: 1 of 3: b", "v: 2 of 3: a, c")


def test_classes_that_are_scored_but_never_trained_are_named():
    lists = [listed("t", 1, role="training"), listed("v", 2, role="validation")]
    facts = [PairFacts(image(1), label({1: 1, 3: 9})), PairFacts(image(2), label({1: 1, 2: 9}))]
    summary = summarize(tallied(lists, facts, num_class=3))
    (untrained,) = (issue for issue in summary.notes if issue.kind == "class_untrained")
    assert untrained.facts == ("class 2",)


def test_values_beyond_the_classes_are_counted_and_placed():
    facts = [
        PairFacts(image(1), label({1: 10})),
        PairFacts(image(2), label({1: 10, 7: 30, 255: 60})),
        PairFacts(image(3), label({255: 90})),
    ]
    summary = summarize(tallied([listed("t", 1, 2, 3)], facts, num_class=3))
    (problem,) = summary.problems
    assert issues(summary)["beyond"] == [(0, 2, "2.png", "values 7, 255"), (0, 3, "3.png", "value 255")]
    assert problem.facts == (
        "The labels hold 7 and 255, but with 3 classes they go from 1 to 3.",
        "value 7: 30 pixels (15.00%) in 1 label",
        "value 255: 150 pixels (75.00%) in 2 labels",
    )
    assert problem.fix.startswith("If 255 stands for unlabelled, set DATASET.ignore_label 255")
    assert "If there are more classes, set DATASET.num_class 7." in problem.fix
    ignored = summarize(tallied([listed("t", 1, 2, 3)], facts, num_class=7, ignore=255))
    assert ignored.problems == ()


@pytest.mark.parametrize("num_class", [None, 2, 150])
def test_masks_of_0_and_255_get_both_fixes(num_class):
    facts = [PairFacts(image(1), label({0: 10, 255: 10})), PairFacts(image(2), label({0: 20}))]
    summary = summarize(tallied([listed("t", 1, 2)], facts, num_class=num_class))
    (problem,) = summary.problems
    assert problem.kind == "binary_mask"
    assert issues(summary)["binary_mask"] == [(0, 1, "1.png", "value 255")]
    assert '--map "0:1, 255:2"' in problem.fix
    assert "DATASET.ignore_label 255" in problem.fix
    assert "DATASET.label_offset 0" in problem.fix


@pytest.mark.parametrize(
    ("values", "offset", "num_class", "beyond"),
    [
        ([0, 1, 5], 1, 5, False),
        ([0, 1, 5], 0, 6, False),
        ([0, 18, 255], 0, 19, True),
        ([1, 254, 255], 1, 255, False),
        ([1, 300, 65535], 1, 300, True),
        ([0], 1, 1, False),
    ],
)
def test_the_number_of_classes_is_inferred_from_the_highest_value(values, offset, num_class, beyond):
    facts = [PairFacts(image(1), label(dict.fromkeys(values, 5)))]
    summary = summarize(tallied([listed("t", 1)], facts, offset=offset))
    assert (summary.coding.num_class, summary.inferred) == (num_class, True)
    assert ("beyond" in issues(summary)) is beyond


def test_duplicates_within_a_list_and_between_lists_are_told_apart():
    training = listed("t", 1, 2, 1, 3)
    validation = listed("v", 2, 4, 5, 4)
    digests = [11, 12, 11, 11, 12, 13, 12, 13]  # 3.jpg is a copy of 1.jpg, 5.jpg of 2.jpg
    facts = [PairFacts(image(digest), label({1: 1, 2: 1}, 100 + k)) for k, digest in enumerate(digests)]
    found = issues(summarize(tallied([training, validation], facts, num_class=2)))
    assert found["duplicate_record"] == [(0, 3, "1.jpg", ""), (1, 4, "4.jpg", "")]
    differ = "their labels differ"
    assert found["duplicate_content"] == [(0, 4, "3.jpg", differ), (1, 3, "5.jpg", differ)]
    assert found["leak"] == [(1, 1, "2.jpg", ""), (1, 3, "5.jpg", "")]


def test_one_label_for_several_images_is_a_problem_and_equal_labels_are_a_note():
    shared = listed("t", 1, 2, fpath_segm="a.png")
    facts = [PairFacts(image(1), label({1: 1, 2: 1}, 9)), PairFacts(image(2), label({1: 1, 2: 1}, 9))]
    assert list(issues(summarize(tallied([shared], facts)))) == ["shared_label"]
    assert list(issues(summarize(tallied([listed("t", 1, 2)], facts)))) == ["same_label_content"]
    # Labels of one value are equal by nature.
    facts = [PairFacts(image(1), label({1: 2}, 9)), PairFacts(image(2), label({1: 2}, 9))]
    assert issues(summarize(tallied([listed("t", 1, 2)], facts))) == {}


def test_a_file_that_took_its_process_down_is_named():
    facts = [
        PairFacts(image(1), label()),
        WorkerDeath(LABEL, False, "ended by signal 11"),
        WorkerDeath(IMAGE, True, "nothing for 9 seconds"),
    ]
    assert issues(summarize(tallied([listed("t", 1, 2, 3)], facts))) == {
        "crash": [(0, 2, "2.png", "ended by signal 11")],
        "hang": [(0, 3, "3.jpg", "nothing for 9 seconds")],
    }


def test_sizes_are_ordered_by_area():
    sizes = [(10, 90), (30, 31), (100, 20), (5, 5), (40, 30)]
    facts = [PairFacts(image(k, *size), FileFacts("empty")) for k, size in enumerate(sizes, start=1)]
    (about,) = summarize(tallied([listed("t", *range(5))], [*facts])).lists
    assert tuple(about.sizes.values()) == ((5, 5), (30, 31), (100, 20))
    assert tuple(about.orientations.values()) == (2, 2, 1)


def test_mostly_unlabelled_lists_bring_the_offset_to_mind():
    summary = summarize(
        tallied([listed("t", 1)], [PairFacts(image(1), label({0: 60, 1: 20, 2: 20}))], num_class=2)
    )
    assert [(note.kind, note.facts) for note in summary.notes] == [("mostly_unlabelled", ("t: 60.0%",))]
    assert "set DATASET.label_offset 0" in summary.notes[0].fix
