"""TEST.output, TEST.legend and --resume as a user sees them; and what happens on a second run."""

import io
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import ROOT, Outcome
from PIL import Image

NOISE = np.random.Generator(np.random.Philox(5)).integers(0, 256, (30, 44, 3)).astype(np.uint8)
COLORS = np.array([[200, 60, 40], [60, 180, 60], [40, 80, 200]])
ALL = "side_by_side,overlay,labels,scores,html"


@pytest.fixture
def photos(tmp_path):
    """A folder with a photo, and another in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(NOISE).save(folder / "a.png")
    Image.fromarray(NOISE[::-1]).save(folder / "sub" / "b.png")
    return folder


def tree(folder):
    """The files below a folder, without the record of what they were made of."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".made.jsonl"]
    return sorted(path.relative_to(folder).as_posix() for path in files)


def read(path):
    with Image.open(path) as image:
        return np.array(image)


def test_all_outputs_at_once_agree(segment, photos, tmp_path):
    outcome = segment(photos, TEST__output=ALL)
    assert (outcome.code, outcome.err) == (0, "")
    out = tmp_path / "out"
    ends = (".png", "_labels.png", "_overlay.png", "_scores.npz")
    names = [f"{stem}{end}" for stem in ("a", "sub/b") for end in ends]
    assert tree(out) == sorted([*names, "predictions.html"])
    labels = read(out / "a_labels.png").astype(int) - 1
    assert labels.shape == NOISE.shape[:2]
    assert set(np.unique(labels)) <= {0, 1, 2}
    np.testing.assert_array_equal(read(out / "a.png")[:, 44:], COLORS[labels])
    np.testing.assert_array_equal(read(out / "a_overlay.png"), (NOISE + COLORS[labels] + 1) // 2)
    with np.load(out / "a_scores.npz") as scores:
        assert scores["probabilities"].dtype == np.float16
        np.testing.assert_array_equal(scores["probabilities"].argmax(0), labels)
        np.testing.assert_allclose(scores["probabilities"].astype(float).sum(0), 1, atol=2e-3)
        assert scores["names"].tolist() == ["brick", "lawn", "pool"]
    share = float(re.search(r"pool: ([\d.]+)%", outcome.out)[1])
    assert share == pytest.approx(100 * (labels == 2).mean(), abs=0.006)
    page = (out / "predictions.html").read_text()
    assert page.count('<article class="card"') == 2
    assert 'href="sub/b_labels.png"' in page


def test_scores_do_not_change_the_other_outputs(segment, photos, tmp_path):
    for name in ("labels", "labels,scores"):
        segment(photos / "a.png", TEST__output=name, out=tmp_path / name)
    plain, beside = (read(tmp_path / name / "a_labels.png") for name in ("labels", "labels,scores"))
    np.testing.assert_array_equal(plain, beside)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with a GPU")
def test_a_gpu_gives_the_labels_of_the_cpu(call, tiny, trained, photos, tmp_path):
    words = ["--imgs", photos / "a.png", "--cfg", tiny.config, "DIR", trained, "TEST.output", "labels,scores"]
    for device in ("cpu", "0"):
        assert call("test", *words, "--gpu", device, "TEST.result", tmp_path / device).code == 0
    on_cpu, on_gpu = (read(tmp_path / device / "a_labels.png") for device in ("cpu", "0"))
    assert (on_cpu == on_gpu).mean() > 0.99


def test_labels_of_more_than_255_classes_have_16_bits(tmp_path):
    from mit_semseg.data.classes import ClassTable
    from mit_semseg.engine.prediction.writers import Segmented, write

    for count, dtype in ((255, np.uint8), (256, np.uint16), (300, np.uint16)):
        table = ClassTable(("x",) * count, np.zeros((count, 3), np.uint8))
        labels = np.array([[0, count - 1]], np.uint8 if count <= 256 else np.int16)
        image = np.zeros((1, 2, 3), np.uint8)
        write(Segmented(image, labels, table), {"labels": tmp_path / f"{count}.png"})
        values = read(tmp_path / f"{count}.png")
        assert (values.dtype, values.tolist()) == (dtype, [[1, count]])


def test_an_unknown_output_is_refused_with_those_there_are(segment, photos, tmp_path):
    outcome = segment(photos, TEST__output="overlay,labls")
    assert (outcome.code, outcome.out) == (2, "")
    names = "side_by_side, overlay, labels, scores, html"
    assert outcome.err == f"TEST.output is labls, but takes one or several of {names}.\n"
    assert segment(photos, TEST__output="()").err.startswith(
        "TEST.output is empty, but takes one or several of"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(44, 30), (1, 1)])
def test_a_legend_stands_below_pictures_and_not_below_labels(segment, tmp_path, size):
    Image.fromarray(NOISE).resize(size).save(tmp_path / "a.png")
    segment(tmp_path / "a.png", TEST__output="side_by_side,labels", TEST__legend=True)
    picture, labels = read(tmp_path / "out" / "a.png"), read(tmp_path / "out" / "a_labels.png")
    assert labels.shape == size[::-1]
    np.testing.assert_array_equal(picture[: size[1], : size[0]], read(tmp_path / "a.png"))
    assert len(picture) >= size[1] + 18
    below = {tuple(color) for color in picture[size[1] :].reshape(-1, 3).tolist()}
    for k, color in enumerate(map(tuple, COLORS.tolist())):
        assert (color in below) == (k in labels.astype(int) - 1)


# A second run


def test_pictures_of_the_first_run_are_no_inputs_of_the_second(segment, photos):
    for _ in range(2):
        outcome = segment(photos, f"{photos}/*", out=photos, TEST__output="side_by_side,overlay,labels")
        assert outcome.code == 0, outcome.err
        assert tree(photos) == [
            *("a.png", "a_labels.png", "a_overlay.png", "a_segmented.png"),
            *("sub/b.png", "sub/b_labels.png", "sub/b_overlay.png", "sub/b_segmented.png"),
        ]
        np.testing.assert_array_equal(read(photos / "a.png"), NOISE)
    assert "Left out: 6 pictures that test.py has made" in outcome.out
    named = segment(photos / "a_overlay.png", out=photos)
    assert (named.code, named.err) == (
        2,
        "What is named are results of test.py itself (1). Name other images.\n",
    )


def test_an_output_folder_inside_the_input_folder_is_not_searched_for_its_pictures(segment, photos):
    for _ in range(2):
        assert segment(photos, out=photos / "out").code == 0
        assert tree(photos / "out") == ["a.png", "sub/b.png"]


def test_a_picture_of_somebody_elses_is_not_replaced_by_an_output(segment, tmp_path):
    """A photo with its hand-made label beside it, and the photo alone is named."""
    Image.fromarray(NOISE).save(tmp_path / "a.jpg")
    Image.fromarray(NOISE[..., 0]).save(tmp_path / "a.png")
    for _ in range(2):
        segment(tmp_path / "a.jpg", out=tmp_path)
        np.testing.assert_array_equal(read(tmp_path / "a.png"), NOISE[..., 0])
        assert read(tmp_path / "a_segmented.png").shape == (30, 88, 3)
    assert not (tmp_path / "a_segmented_2.png").exists()


def test_a_resume_does_what_is_missing_and_nothing_else(segment, photos, tmp_path):
    out = tmp_path / "out"
    segment(photos, TEST__output="overlay,labels")
    os.utime(out / "a_labels.png", (0, 0))
    (out / "sub" / "b_overlay.png").unlink()
    outcome = segment(photos, "--resume", TEST__output="overlay,labels")
    assert outcome.code == 0
    assert "Skipped: 1 of 2, which are done" in outcome.out
    assert str(photos / "a.png") not in outcome.out
    assert (out / "a_labels.png").stat().st_mtime == 0
    assert (out / "sub" / "b_overlay.png").exists()
    again = segment(photos, "--resume", TEST__output="overlay,labels")
    assert "Skipped: 2 of 2" in again.out
    assert "Predictions" not in again.out


def test_a_resume_goes_by_the_inputs_not_by_the_names_of_outputs(segment, photos, tmp_path):
    out = tmp_path / "out"
    segment(photos / "a.png", TEST__output="labels")
    # Another picture of the same name and one that changes how names are chosen.
    Image.fromarray(NOISE[:, ::-1]).save(photos / "sub" / "a.png")
    Image.fromarray(NOISE[:20]).save(photos / "a.bmp")
    first = (out / "a_labels.png").read_bytes()
    os.utime(out / "a_labels.png", (0, 0))
    for word in (photos / "sub" / "a.png", photos / "a.bmp", photos):
        outcome = segment(word, "--resume", TEST__output="labels")
        assert outcome.code == 0
    assert "Skipped: 3 of 4" in outcome.out
    assert (out / "a_labels.png").read_bytes() == first
    assert (out / "a_labels.png").stat().st_mtime == 0
    assert tree(out) == [
        "a_labels.png",
        "a_segmented_2_labels.png",
        "a_segmented_labels.png",
        "sub/b_labels.png",
    ]
    assert "Skipped: 4 of 4" in segment(photos, "--resume", TEST__output="labels").out


def test_an_output_belongs_to_the_input_that_it_was_made_of_last(segment, photos, tmp_path):
    Image.fromarray(NOISE[:20]).save(photos / "sub" / "a.png")
    segment(photos / "a.png")
    segment(photos / "sub" / "a.png")  # replaces it, as ever
    assert "Skipped: 0 of 1" in segment(photos / "a.png", "--resume").out
    assert tree(tmp_path / "out") == ["a.png", "a_segmented.png"]
    assert "Skipped: 1 of 1" in segment(photos / "sub" / "a.png", "--resume").out


def test_a_torn_line_of_the_record_counts_for_nothing(segment, photos, tmp_path):
    segment(photos / "a.png")
    record = tmp_path / "out" / ".made.jsonl"
    record.write_bytes(record.read_bytes()[:-9])
    assert "Skipped: 0 of 2" in segment(photos, "--resume").out
    assert "Skipped: 2 of 2" in segment(photos, "--resume").out


def test_pictures_made_into_another_folder_are_no_inputs(segment, photos, tmp_path):
    segment(photos, out=photos / "out")
    outcome = segment(photos, out=photos / "more", TEST__output="overlay")
    assert "Left out: 2 pictures that test.py has made" in outcome.out
    assert tree(photos / "more") == ["a_overlay.png", "sub/b_overlay.png"]


def test_a_resume_keeps_what_the_page_had(segment, photos, tmp_path):
    out = tmp_path / "out"
    segment(photos / "a.png", TEST__output="html")
    first = (out / "predictions.html").read_bytes()
    card = next(line for line in first.splitlines() if line.startswith(b'<article class="card"'))
    # What a killed run leaves: cards of its own, the last of them half written.
    (out / ".predictions.0.cards").write_bytes(b"\n" + card[:100])
    outcome = segment(photos, "--resume", TEST__output="html")
    assert "Skipped: 1 of 2" in outcome.out
    page = (out / "predictions.html").read_bytes()
    assert card in page
    assert page.count(b'<article class="card"') == 2
    assert tree(out) == ["predictions.html"]
    segment(photos / "sub" / "b.png", TEST__output="html")
    assert (out / "predictions.html").read_bytes().count(b'<article class="card"') == 1


# Bad input


def test_a_damaged_image_among_others_is_named_at_the_end_and_on_the_page(segment, photos, tmp_path):
    (photos / "bad.jpg").write_bytes(b"no image")
    outcome = segment(photos, photos / "a.png", TEST__output="overlay,html")
    assert outcome.code == 1
    assert outcome.err == (
        f"{photos / 'bad.jpg'} is not an image that Pillow can read.\n1 of 3 images could not be segmented.\n"
    )
    assert tree(tmp_path / "out") == ["a_overlay.png", "predictions.html", "sub/b_overlay.png"]
    assert "bad.jpg is not an image" in (tmp_path / "out" / "predictions.html").read_text()


def test_odd_names_are_names(segment, tmp_path):
    names = ["new\nline.png", "\udcff.png", "a <b> & 'c'.png", "ü" * 125 + ".png", "sp ace.png", "%41.png"]
    (tmp_path / "in").mkdir()
    for name in names:
        Image.fromarray(NOISE).save(tmp_path / "in" / name)
    outcome = segment(tmp_path / "in", TEST__output="labels,html")
    assert outcome.code == 0, outcome.err
    assert r"Predictions in [" + str(tmp_path / "in") + r"/new\nline.png]:" in outcome.out
    assert len(tree(tmp_path / "out")) == len(names) + 1
    page = (tmp_path / "out" / "predictions.html").read_text(encoding="utf-8")
    assert page.count('<article class="card"') == len(names)
    assert 'href="%FF_labels.png"' in page
    again = segment(tmp_path / "in", "--resume", TEST__output="labels,html")
    assert f"Skipped: {len(names)} of {len(names)}" in again.out


def test_a_list_on_standard_input_goes_on_without_what_has_disappeared(
    segment, photos, tmp_path, monkeypatch
):
    listed = f"{photos / 'a.png'}\n{tmp_path / 'gone.png'}\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    outcome = segment("-")
    assert outcome.code == 1
    assert outcome.err.startswith(f"{tmp_path / 'gone.png'} does not exist.\n1 of 2 images")
    assert tree(tmp_path / "out") == ["a.png"]


def test_formats_beyond_eight_bits_and_three_channels(segment, tmp_path):
    gray = Image.fromarray(NOISE[..., 0])
    gray.convert("F").save(tmp_path / "float.tif")
    Image.fromarray(NOISE[..., 0].astype(np.float32) / 255).save(tmp_path / "unit.tif")
    gray.convert("I").save(tmp_path / "int.tif")
    Image.fromarray(NOISE).convert("LAB").save(tmp_path / "lab.tif")
    Image.fromarray(NOISE).convert("HSV").convert("YCbCr").save(tmp_path / "ycc.jpg")
    outcome = segment(*sorted(tmp_path.glob("*.*")))
    assert outcome.code == 1
    name, largest = tmp_path / "float.tif", NOISE[..., 0].max()
    assert outcome.err.startswith(f"{name} holds floating-point values from 0 to {largest}, not from 0 to 1.")
    assert tree(tmp_path / "out") == ["int.png", "lab.png", "unit.png", "ycc.png"]


# Several processes


@pytest.fixture
def torchrun():
    """A script under torchrun: ``torchrun(processes, name, words...)`` -> the finished process."""

    def run(processes, name, *words):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        done = subprocess.run(
            [*command, str(processes), str(ROOT / name), *map(str, words)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def test_several_processes_share_the_images_and_write_what_one_does(call, tiny, trained, tmp_path, torchrun):
    photos = tmp_path / "photos"
    shutil.copytree(tiny.folder / "validation", photos)
    (photos / "bad.jpg").write_bytes(b"")
    words = [
        "--imgs",
        photos,
        "--cfg",
        tiny.config,
        "--gpu",
        "cpu",
        "DIR",
        trained,
        "TEST.output",
        "overlay,html",
    ]
    one = call("test", *words, "TEST.result", tmp_path / "one")
    words = [*words, "TEST.result", tmp_path / "two"]
    two = torchrun(2, "test.py", *words)
    assert (one.code, two.code) == (1, 1), two.err
    assert f"{photos / 'bad.jpg'} is empty.\n1 of 7 images could not be segmented.\n" in two.err
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert len(tree(tmp_path / "one")) == 7
    for name in tree(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_camera_is_for_one_process(segment):
    outcome = segment("7", "--procs", 2)
    assert (
        outcome.err == "A camera needs no more than one process. Call test.py without torchrun or --procs.\n"
    )
