import numpy as np
import pytest

from mit_semseg.data.check.compare import compare
from mit_semseg.data.check.decode import File
from mit_semseg.data.check.duplicates import repeats, repeats_of_others
from mit_semseg.data.check.examine import IMAGE, LABEL, Finding
from mit_semseg.data.check.places import Source
from mit_semseg.data.check.pool import Death
from mit_semseg.data.check.summary import summarize
from mit_semseg.data.check.tally import Tally
from mit_semseg.data.labels import LabelCoding
from mit_semseg.data.records import read_records


def source(name, *images, role="", **changes):
    records = [
        {"fpath_img": f"{k}.jpg", "fpath_segm": f"{k}.png", "width": 60, "height": 40, **changes}
        for k in images
    ]
    return Source(name, "root", read_records(records), role)


def image(digest=0, width=60, height=40, orientation=1, **about):
    return File(digest=digest, width=width, height=height, mode="RGB", orientation=orientation, **about)


def label(counts=None, digest=0, width=60, height=40, mode="L", **about):
    counts = {1: 2400} if counts is None else counts
    values, numbers = (np.array(list(part), np.int64) for part in (counts.keys(), counts.values()))
    return File(digest=digest, width=width, height=height, mode=mode, values=values, counts=numbers, **about)


def tallied(sources, findings, **coding):
    tally = Tally(sources, LabelCoding(**coding))
    for position, finding in enumerate(findings):
        tally.add(position, finding)
    tally.find_duplicates()
    return tally


def issues(summary):
    """{kind: [(list, line, file, detail), ...]}, without what only says that the coding is unknown."""
    found = {}
    for issue in (*summary.problems, *summary.notes):
        places = issue.places.spelled(summary.sources)
        found[issue.kind] = [(place.source, place.line, place.path, place.detail) for place in places]
    found.pop("num_class_inferred", None)
    return found


def kinds(finding, listed=(60, 40)):
    return [(kind, file) for kind, file, _ in compare(finding, listed)]


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
    finding = Finding(image(orientation=orientation), label(width=label_size[0], height=label_size[1]))
    assert kinds(finding) == expected


def test_a_square_image_does_not_show_whether_its_label_is_turned():
    finding = Finding(image(width=40, orientation=6), label(width=40))
    assert kinds(finding, (40, 40)) == [("exif_undecided", IMAGE)]


def test_the_list_is_compared_with_the_file():
    fine = Finding(image(), label())
    assert kinds(fine) == []
    assert kinds(fine, (40, 60)) == [("listed_size", IMAGE)]
    assert kinds(fine, (0, 0)) == [("no_size", IMAGE)]
    assert kinds(Finding(File("missing"), label()), (1, 1)) == [("missing", IMAGE)]


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
        [source("t", 1, 2), source("v", 3)],
        [
            Finding(image(1), label({0: 400, 1: 2000})),
            Finding(image(2), label({1: 100, 3: 2300})),
            Finding(image(3), label({2: 2400})),
        ],
        num_class=3,
    )
    summary = summarize(tally, ["a", "b", "c"])
    assert summary.pixels[:, 1:4].tolist() == [[2100, 0, 2300], [0, 2400, 0]]
    assert summary.labels[:, :4].tolist() == [[1, 2, 0, 1], [0, 0, 1, 0]]
    assert [(about.unlabelled, about.labelled) for about in summary.lists] == [(400, 4400), (0, 2400)]
    assert issues(summary) == {"class_missing": []}
    assert summary.notes[0].facts == ("t: 1 of 3: b", "v: 2 of 3: a, c")


def test_classes_that_are_scored_but_never_trained_are_named():
    sources = [source("t", 1, role="training"), source("v", 2, role="validation")]
    findings = [Finding(image(1), label({1: 1, 3: 9})), Finding(image(2), label({1: 1, 2: 9}))]
    summary = summarize(tallied(sources, findings, num_class=3))
    (untrained,) = (issue for issue in summary.notes if issue.kind == "class_untrained")
    assert untrained.facts == ("class 2",)


def test_values_beyond_the_classes_are_counted_and_placed():
    findings = [
        Finding(image(1), label({1: 10})),
        Finding(image(2), label({1: 10, 7: 30, 255: 60})),
        Finding(image(3), label({255: 90})),
    ]
    summary = summarize(tallied([source("t", 1, 2, 3)], findings, num_class=3))
    (problem,) = summary.problems
    assert issues(summary)["beyond"] == [(0, 2, "2.png", "values 7, 255"), (0, 3, "3.png", "value 255")]
    assert problem.facts == (
        "value 7: 30 pixels (15.00%) in 1 label",
        "value 255: 150 pixels (75.00%) in 2 labels",
    )
    assert problem.fix.startswith("If 255 stands for unlabelled, set DATASET.ignore_label 255")
    assert "values 1 to 3" in problem.fix
    ignored = summarize(tallied([source("t", 1, 2, 3)], findings, num_class=7, ignore=255))
    assert ignored.problems == ()


@pytest.mark.parametrize("num_class", [None, 2, 150])
def test_masks_of_0_and_255_get_both_fixes(num_class):
    findings = [Finding(image(1), label({0: 10, 255: 10})), Finding(image(2), label({0: 20}))]
    summary = summarize(tallied([source("t", 1, 2)], findings, num_class=num_class))
    (problem,) = summary.problems
    assert problem.kind == "binary_mask"
    assert issues(summary)["binary_mask"] == [(0, 1, "1.png", "value 255")]
    assert "0:1,255:2" in problem.fix
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
    findings = [Finding(image(1), label(dict.fromkeys(values, 5)))]
    summary = summarize(tallied([source("t", 1)], findings, offset=offset))
    assert (summary.coding.num_class, summary.inferred) == (num_class, True)
    assert ("beyond" in issues(summary)) is beyond


def test_duplicates_within_a_list_and_between_lists_are_told_apart():
    training = source("t", 1, 2, 1, 3)
    validation = source("v", 2, 4, 5, 4)
    digests = [11, 12, 11, 11, 12, 13, 12, 13]  # 3.jpg is a copy of 1.jpg, 5.jpg of 2.jpg
    findings = [Finding(image(digest), label({1: 1, 2: 1}, 100 + k)) for k, digest in enumerate(digests)]
    found = issues(summarize(tallied([training, validation], findings, num_class=2)))
    assert found["duplicate_record"] == [(0, 3, "1.jpg", ""), (1, 4, "4.jpg", "")]
    differ = "their labels differ"
    assert found["duplicate_content"] == [(0, 4, "3.jpg", differ), (1, 3, "5.jpg", differ)]
    assert found["leak"] == [(1, 1, "2.jpg", ""), (1, 3, "5.jpg", "")]


def test_one_label_for_several_images_is_a_problem_and_equal_labels_are_a_note():
    shared = source("t", 1, 2, fpath_segm="a.png")
    findings = [Finding(image(1), label({1: 1, 2: 1}, 9)), Finding(image(2), label({1: 1, 2: 1}, 9))]
    assert list(issues(summarize(tallied([shared], findings)))) == ["shared_label"]
    assert list(issues(summarize(tallied([source("t", 1, 2)], findings)))) == ["same_label_content"]
    # Labels of one value are equal by nature.
    findings = [Finding(image(1), label({1: 2}, 9)), Finding(image(2), label({1: 2}, 9))]
    assert issues(summarize(tallied([source("t", 1, 2)], findings))) == {}


def test_a_file_that_took_its_process_down_is_named():
    findings = [
        Finding(image(1), label()),
        Death(LABEL, False, "ended by signal 11"),
        Death(IMAGE, True, "nothing for 9 seconds"),
    ]
    assert issues(summarize(tallied([source("t", 1, 2, 3)], findings))) == {
        "crash": [(0, 2, "2.png", "ended by signal 11")],
        "hang": [(0, 3, "3.jpg", "nothing for 9 seconds")],
    }


def test_sizes_are_ordered_by_area():
    sizes = [(10, 90), (30, 31), (100, 20), (5, 5), (40, 30)]
    findings = [Finding(image(k, *size), File("empty")) for k, size in enumerate(sizes, start=1)]
    (about,) = summarize(tallied([source("t", *range(5))], [*findings])).lists
    assert (about.smallest, about.median, about.largest) == ((5, 5), (30, 31), (100, 20))
    assert (about.landscape, about.portrait, about.square) == (2, 2, 1)


def test_mostly_unlabelled_lists_bring_the_offset_to_mind():
    summary = summarize(tallied([source("t", 1)], [Finding(image(1), label({0: 60, 1: 40}))], num_class=1))
    assert [(note.kind, note.facts) for note in summary.notes] == [("mostly_unlabelled", ("t: 60.0%",))]
    assert "set DATASET.label_offset 0" in summary.notes[0].fix
