"""The page that compares runs."""

import re

import pytest
from runs_on_disk import write_run, write_strip

from mit_semseg.runs.charts import _ticks, charts
from mit_semseg.runs.listing import find_runs
from mit_semseg.runs.page import differences, render
from mit_semseg.runs.samples import samples

NASTY = "<script>alert(1)</script> & 'x'"


def rows(count, loss=lambda k: 1 / k, iou=None):
    lines = []
    for k in range(1, count + 1):
        lines.append(f"{k},{10 * k},{loss(k)},{50 + k / 10},0.1,0.1,,")
        if iou:
            lines.append(f"{k},{10 * k},,,,,{iou(k)},60.0")
    return lines


def test_it_shows_curves_configs_and_predictions_of_all_runs_and_needs_no_other_file(tmp_path):
    for name, rate, color in (("a", 0.1, (255, 0, 0)), ("b/c", 0.2, (0, 255, 0))):
        folder = write_run(tmp_path / name, rows(30, iou=lambda k: k / 100), TRAIN__lr_encoder=rate, DIR=name)
        write_strip(folder / "samples" / "val" / "1.jpg.png", color)
    write_run(tmp_path / "new", text="")  # has just started
    page = render(find_runs(tmp_path), "here")
    assert page.count("<path d=") == 3 * 2 + page.count("M1 4H21")
    assert "<code>TRAIN.lr_encoder</code>" in page
    assert page.count("<code>") == 1
    assert ">val/1.jpg<" in page
    assert page.count('alt="prediction of ') == 2
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_the_page_names_the_folder_also_if_it_is_the_working_directory(tmp_path, call, monkeypatch):
    write_run(tmp_path / "mine" / "a", rows(3))
    monkeypatch.chdir(tmp_path / "mine")
    assert call("runs", ".", "--html", "page.html").code == 0
    assert "<title>Runs in mine</title>" in (tmp_path / "mine" / "page.html").read_text()


def test_no_runs_give_a_page_that_says_so(tmp_path):
    page = render(find_runs(tmp_path), "here")
    assert "No training has written into this folder" in page
    assert "Curves" not in page


def test_names_and_values_are_text_whatever_they_hold(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, log=[f"Ended by Error: {NASTY}"], DATASET__root_dataset=NASTY + name)
    page = render(find_runs(tmp_path), NASTY)
    assert "<script>alert" not in page


def test_only_keys_that_differ_are_compared_and_runs_without_a_config_do_not_matter(tmp_path):
    write_run(tmp_path / "a", TRAIN__seed=1, VAL__every=2)
    write_run(tmp_path / "b", TRAIN__seed=2, VAL__every=2, DIR="elsewhere")
    write_run(tmp_path / "c", text="")
    write_run(tmp_path / "d", text="TRAIN: {seed: 1}\n")
    found = dict(differences(find_runs(tmp_path)))
    assert found["TRAIN.seed"] == ["1", "2", "–", "1"]  # noqa: RUF001
    assert found["VAL.every"] == ["2", "2", "–", "–"]  # noqa: RUF001
    assert "DIR" not in found


def test_images_of_the_most_runs_come_first_and_lists_are_not_mixed(tmp_path):
    for name, images, listed in (("a", "12", "x"), ("b", "23", "x"), ("c", "2", "other")):
        folder = write_run(tmp_path / name, DATASET__list_val=listed)
        for image in images:
            write_strip(folder / "result" / f"{image}.png", (0, 0, 255))
    found = [(sample.name, sorted(sample.predictions)) for sample in samples(find_runs(tmp_path))]
    assert found == [("2", [0, 1]), ("2", [2]), ("1", [0]), ("3", [1])]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"no picture"])
def test_a_picture_that_cannot_be_read_is_left_out(tmp_path, content):
    folder = write_run(tmp_path / "a")
    write_strip(folder / "samples" / "1.png", (1, 2, 3))
    (folder / "samples" / "2.png").write_bytes(content)
    assert [sample.name for sample in samples(find_runs(tmp_path))] == ["1"]


def test_a_long_history_becomes_a_short_path_that_begins_and_ends_where_it_does(tmp_path):
    write_run(tmp_path / "a", rows(3000))
    loss, _ = charts(find_runs(tmp_path))
    points = loss.curves[0].path.removeprefix("M").split("L")
    assert len(points) == 200
    assert points[-1].startswith("340 ")
    assert all(0 <= float(point.split()[1]) <= 200 for point in points)


@pytest.mark.parametrize(
    ("history", "titles"),
    [
        ([], []),
        (["1,10,,,0.1,0.1,,"], []),  # no pixel was labelled
        (["1,10,0,0,0.1,0.1,,"], ["Training loss", "Training accuracy, %"]),
        (["1,10,,,,,0.5,50"], ["Validation mean IoU, %"]),
        (["1,10,,,,,nan,nan"], []),
        (["1,10,inf,1e300,0.1,0.1,,"], ["Training accuracy, %"]),
    ],
)
def test_any_history_can_be_drawn(tmp_path, history, titles):
    write_run(tmp_path / "a", history)
    drawn = charts(find_runs(tmp_path))
    assert [chart.title for chart in drawn] == titles
    assert not any("nan" in curve.path for chart in drawn for curve in chart.curves)


def test_ticks_are_round_numbers_that_cover_the_range():
    assert _ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert _ticks(0.31, 0.47, 5) == pytest.approx([0.3, 0.35, 0.4, 0.45, 0.5])
    assert len(_ticks(5, 5, 5)) >= 2
