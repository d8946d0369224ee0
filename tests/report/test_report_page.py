import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mit_semseg.config import load_config
from mit_semseg.data.classes import ClassTable, palette
from mit_semseg.evaluation.results import metrics_of
from mit_semseg.evaluation.tally import Tally
from mit_semseg.report import render
from mit_semseg.report.page import percent

NASTY = "<script>alert(1)</script> & \"x\" 'y'"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that every element is closed in its turn, and collects the text, the tags and the addresses."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.addresses, self.texts = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def report(names, images, config=(), info="a.jpg"):
    """The page on images given as (prediction, label), one row of pixels each."""
    table = ClassTable(tuple(names), palette(len(names)))
    cfg = load_config(None, ["DATASET.num_class", str(len(names)), *config])
    tally = Tally(table)
    for index, (prediction, label) in enumerate(images):
        item = {"info": info, "img_ori": np.zeros((1, len(label), 3), np.uint8)}
        tally.include(tally.score(index, item, np.array([label]), np.array([prediction])))
    metrics = metrics_of(tally, table, cfg, [])
    return render(metrics, tally.matrix.counts, table.colors, tally.examples, cfg.dump())


def report_of_counts(names, counts):
    """The page on a confusion matrix, without images."""
    table = ClassTable(tuple(names), palette(len(names)))
    cfg = load_config(None, ["DATASET.num_class", str(len(names))])
    tally = Tally(table)
    tally.matrix.counts += counts
    metrics = metrics_of(tally, table, cfg, [])
    return render(metrics, counts, table.colors, tally.examples, cfg.dump())


def part(page, heading):
    """The page from a heading to the next one."""
    return page.split(f"{heading}</h3>", 1)[1].split("<h", 1)[0]


def test_the_numbers_are_in_the_page_without_scripts():
    prediction, label = [0] * 7 + [1] * 3 + [1] * 5, [0] * 10 + [1] * 5
    page = report(["pole", "building", "train"], [(prediction, label)] * 2)
    text = Page(re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)).text
    assert "Mean IoU 0.6625" in text  # pole 7 of 10, building 5 of 8
    assert "pole taken for building: 30 % of its pixels (6)" in text
    assert re.search(r"pole ?0\.7000 ?0\.7000 ?1\.0000 ?20 ?building \(30 %\)", text)
    assert re.search(r"train ?– ?– ?– ?0", text)  # noqa: RUF001
    assert "95 % interval 0.6625 to 0.6625" in text
    assert "num_class: 3" in text


def test_what_was_asked_for_is_in_the_page_in_numbers():
    table = ClassTable(("sky", "car"), palette(2))
    tally = Tally(table, boundary=True, calibration=True)
    item = {"info": "a.jpg", "img_ori": np.zeros((1, 4, 3), np.uint8)}
    confidence = np.array([[0.5, 0.75, 1, 0.75]])
    label, prediction = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])
    tally.include(tally.score(0, item, label, prediction, confidence))
    cfg = load_config(None, ["DATASET.num_class", "2"])
    metrics = metrics_of(tally, table, cfg, [])
    text = Page(render(metrics, tally.matrix.counts, table.colors, tally.examples, cfg.dump())).text
    assert re.search(r"Boundary IoU ?0\.5833", text)
    assert re.search(r"car ?0\.6667 ?0\.6667 ?1\.0000", text)
    assert "Expected calibration error 0.2500." in text  # 0.5 on one pixel, 0.25 on two, 0 on one
    assert "has a probability of 75 % on average; 75 % of the pixels are right." in text
    assert re.search(r"73 to 80 ?0\.7500 ?0\.5000 ?2", text)
    assert "Calibration" not in Page(report(["sky", "car"], [([0, 1], [0, 0])])).text


def test_names_paths_and_values_are_text_whatever_they_hold():
    page = report([NASTY, "car"], [([0, 1], [0, 0])], config=["DIR", NASTY], info=NASTY)
    assert "<script>alert" not in page
    parsed = Page(page)
    assert parsed.tags.count("script") == 1
    assert parsed.texts.count(NASTY) >= 3
    large = report_of_counts([NASTY] * 30, np.eye(30, dtype=np.int64))
    assert "<script>alert" not in large
    assert Page(large).texts.count(NASTY) == 4 * 30  # the table, both sides of the matrix, the legend


def test_it_asks_for_nothing_from_outside():
    page = report(["sky", "car"], [([0, 1], [0, 0])] * 3)
    addresses = Page(page).addresses
    assert len(addresses) == 12
    assert all(address.startswith("data:image/") for address in addresses)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|url\(", page)


@pytest.mark.parametrize("images", [[], [([0, 1], [-1, -1])]])
def test_nothing_scored_is_said(images):
    text = Page(report(["sky", "car"], images)).text
    assert "There is nothing to show: no pixel is labelled." in text
    assert "There is no such image." in text
    assert "nan" not in text.lower().replace("finance", "")


def test_all_right_is_said():
    text = Page(report(["sky", "car"], [([0, 1], [0, 1])])).text
    assert "None: no labelled pixel was taken for another class." in text
    assert "Every labelled pixel is right." in text


def test_many_classes_make_a_picture_with_labels_and_stay_small():
    num_class = 150
    rng = np.random.Generator(np.random.Philox(1))
    images = [rng.integers(0, num_class, (2, 40_000)) for _ in range(14)]
    page = report([f"class {k}" for k in range(num_class)], images)
    assert 'id="heat"' in page
    assert len(page.encode()) < 3_000_000
    counts = np.zeros((500, 500), np.int64)
    counts[:300, :300] = 1
    counts[200:, 200:] += 5
    matrix = part(report_of_counts([f"class {k}" for k in range(500)], counts), "Matrix")
    assert '--n:200"' in matrix
    assert "Not shown: 300 classes with" in matrix


def test_the_matrix_hides_classes_that_occur_nowhere():
    counts = np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]])
    matrix = part(report_of_counts(["sky", "car", "train"], counts), "Matrix")
    assert "car" not in matrix
    assert "sky taken for train: 25\N{NO-BREAK SPACE}%" in matrix
    assert "Not shown: 1 class with" in matrix


def test_a_class_of_a_few_pixels_is_not_named_as_the_largest_share():
    counts = np.array([[999_000, 1000, 0], [0, 9000, 0], [0, 9, 0]])
    page = report_of_counts(["sky", "car", "dust"], counts)
    assert "<b>sky</b> taken for <b>car</b>" in part(page, "Largest share of a class")
    assert "dust" not in part(page, "Largest share of a class")
    assert "dust" in part(page, "Most pixels")


def test_shares_in_words():
    words = [
        percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0, 4e-4, 0.023, 0.314, 0.9999, 1)
    ]
    assert words == ["0 %", "under 0.1 %", "2.3 %", "31 %", "99 %", "100 %"]
