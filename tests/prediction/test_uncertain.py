"""--uncertain: the measure, the ranking, the list and the page."""

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg.inference.predict import Settings, labels_of, margin
from mit_semseg.report.predictions import doubt_of


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.Generator(np.random.Philox(9))
    for k in range(4):
        pixels = rng.integers(0, 60 * (k + 1), (30 + k, 44, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k}.png")
    return folder


def test_the_margin_is_that_between_the_two_likeliest_classes():
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [1, 0, 0]])
    assert margin(probabilities).tolist() == pytest.approx([0.2, 1])
    assert labels_of(probabilities).tolist() == [1, 0]


def test_with_a_threshold_the_model_is_least_sure_at_the_threshold():
    probabilities = torch.tensor([[0.8, 0.2], [0.2, 0.8], [0, 1], [1, 0], [0.4, 0.6]])
    settings = Settings(threshold=0.2)
    assert margin(probabilities, settings).tolist() == pytest.approx([0, 0.75, 1, 1, 0.5])
    assert labels_of(probabilities, settings).tolist() == [1, 1, 1, 0, 1]
    assert margin(probabilities).tolist() == pytest.approx([0.6, 0.6, 1, 1, 0.2])


def test_the_list_names_the_least_sure_images_by_the_probabilities(segment, photos, tmp_path):
    outcome = segment(photos, "--uncertain", "2", TEST__output="scores,labels")
    assert outcome.code == 0, outcome.err
    out = tmp_path / "out"
    want = {}
    for path in photos.iterdir():
        with np.load(out / f"{path.stem}_scores.npz") as scores:
            first, second = np.sort(scores["probabilities"].astype(float), axis=0)[:-3:-1]
        want[str(path)] = 1 - (first - second).mean()
    order = sorted(want, key=lambda path: -want[path])
    assert (out / "uncertain.txt").read_text().splitlines() == order[:2]
    header, *rows = (out / "uncertainty.csv").read_text().splitlines()
    assert header == "uncertainty,image"
    assert [row.split(",")[1] for row in rows] == order
    assert [float(row.split(",")[0]) for row in rows] == pytest.approx(sorted(want.values())[::-1], abs=2e-3)
    assert "2 of 4 images to label" in outcome.out


def test_scoring_without_probabilities_gives_the_same_ranking_and_labels(segment, photos, tmp_path):
    for name in ("labels,scores", "labels"):
        segment(photos, "--uncertain", "4", TEST__output=name, out=tmp_path / name)
    tables = [(tmp_path / name / "uncertainty.csv").read_text() for name in ("labels,scores", "labels")]
    assert tables[0] == tables[1]
    for path in (tmp_path / "labels").glob("*_labels.png"):
        assert path.read_bytes() == (tmp_path / "labels,scores" / path.name).read_bytes()


def test_the_page_shows_them_first_and_a_resumed_run_keeps_the_ranking(segment, photos, tmp_path):
    segment(photos, "--uncertain", "1", TEST__output="labels")
    page = (tmp_path / "out" / "predictions.html").read_text()
    first = (tmp_path / "out" / "uncertain.txt").read_text().strip()
    cards = [line for line in page.splitlines() if line.startswith("<article")]
    doubts = [doubt_of(line.encode()) for line in cards]
    assert doubts == sorted(doubts, reverse=True)
    assert len(doubts) == 4
    assert first.split("/")[-1] in cards[0]
    assert page.index("Least sure: 1 of 4") < page.index("<article") < page.index("All others")
    assert cards[0].count("<img") == 3
    again = segment(photos, "--uncertain", "3", "--resume", TEST__output="labels")
    assert "Skipped 4 of 4" in again.out + again.err
    assert len((tmp_path / "out" / "uncertain.txt").read_text().splitlines()) == 3
    # Cards of a run without it are made again.
    segment(photos, TEST__output="html", out=tmp_path / "plain")
    plain = segment(photos, "--uncertain", "3", "--resume", TEST__output="html", out=tmp_path / "plain")
    assert "--uncertain" in plain.out + plain.err
    assert len((tmp_path / "plain" / "uncertain.txt").read_text().splitlines()) == 3


def test_a_video_and_a_wrong_number_are_refused(segment, photos, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    outcome = segment(photos, tmp_path / "a.mp4", "--uncertain", "1")
    assert outcome.code == 2
    assert "--uncertain ranks images, but" in outcome.err
    assert segment(photos, "--uncertain", "0").code == 2
