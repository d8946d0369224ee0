"""TEST.output, TEST.legend and --resume as a user sees them; and what happens on a second run."""

import io
import json
import os
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from commands import ROOT
from forked import run_torchrun
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
    """The files below a folder, without the manifest."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".manifest.jsonl"]
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
    from mit_semseg.prediction.predictor import Prediction
    from mit_semseg.prediction.tools.areas import Shapes
    from mit_semseg.prediction.writers import write

    for count, dtype in ((255, np.uint8), (256, np.uint16), (300, np.uint16)):
        table = ClassTable(("x",) * count, np.zeros((count, 3), np.uint8))
        labels = np.array([[0, count - 1]], np.uint8 if count <= 256 else np.int16)
        image = np.zeros((1, 2, 3), np.uint8)
        write(Prediction(image, labels, table), {"labels": tmp_path / f"{count}.png"}, Shapes(count))
        values = read(tmp_path / f"{count}.png")
        assert (values.dtype, values.tolist()) == (dtype, [[1, count]])


def test_an_unknown_output_is_refused_with_those_there_are(segment, photos, tmp_path):
    outcome = segment(photos, TEST__output="overlay,labls")
    assert (outcome.code, outcome.out) == (2, "")
    names = "side_by_side, overlay, labels, scores, labelme, geojson, gpkg, html, coco, cvat"
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
    assert "Skipped 6 inputs that test.py has made" in outcome.out
    named = segment(photos / "a_overlay.png", out=photos)
    assert (named.code, named.err) == (
        2,
        "All inputs (1) are results of test.py itself. Name other images.\n",
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
    assert "Skipped 1 of 2 inputs, which are done" in outcome.out
    assert str(photos / "a.png") not in outcome.out
    assert (out / "a_labels.png").stat().st_mtime == 0
    assert (out / "sub" / "b_overlay.png").exists()
    again = segment(photos, "--resume", TEST__output="overlay,labels")
    assert "Skipped 2 of 2" in again.out
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
    assert "Skipped 3 of 4" in outcome.out
    assert (out / "a_labels.png").read_bytes() == first
    assert (out / "a_labels.png").stat().st_mtime == 0
    assert tree(out) == [
        "a_labels.png",
        "a_segmented_2_labels.png",
        "a_segmented_labels.png",
        "sub/b_labels.png",
    ]
    assert "Skipped 4 of 4" in segment(photos, "--resume", TEST__output="labels").out


def test_an_output_belongs_to_the_input_that_it_was_made_of_last(segment, photos, tmp_path):
    Image.fromarray(NOISE[:20]).save(photos / "sub" / "a.png")
    segment(photos / "a.png")
    segment(photos / "sub" / "a.png")  # replaces it, as ever
    assert "Skipped 0 of 1" in segment(photos / "a.png", "--resume").out
    assert tree(tmp_path / "out") == ["a.png", "a_segmented.png"]
    assert "Skipped 1 of 1" in segment(photos / "sub" / "a.png", "--resume").out


def test_a_torn_line_of_the_manifest_is_ignored(segment, photos, tmp_path):
    segment(photos / "a.png")
    manifest = tmp_path / "out" / ".manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    assert "Skipped 0 of 2" in segment(photos, "--resume").out
    assert "Skipped 2 of 2" in segment(photos, "--resume").out


def test_what_release_2_0_has_made_is_made_again(segment, photos, tmp_path):
    segment(photos / "a.png")
    (tmp_path / "out" / ".manifest.jsonl").unlink()
    line = {"input": str(photos / "a.png"), "outputs": {"side_by_side": "a.png"}}
    (tmp_path / "out" / ".made.jsonl").write_text(json.dumps(line) + "\n")
    outcome = segment(photos, "--resume")
    assert "Skipped 0 of 2" in outcome.out
    assert "Segmenting 1 of 2 inputs again: an earlier release has made their outputs, without a record" in (
        outcome.out
    )
    assert tree(tmp_path / "out") == [".made.jsonl", "a.png", "sub/b.png"]
    assert "Skipped 2 of 2" in segment(photos, "--resume").out


def made_again(outcome):
    """The reasons that a resumed run gives, with the number of inputs."""
    found = re.findall(r"Segmenting (\d+) of \d+ inputs again: (.*)", outcome.out)
    return {reason: int(count) for count, reason in found}


@pytest.mark.parametrize(
    ("keys", "change"),
    [
        ({"TEST__checkpoint": "epoch_1.pth"}, "the encoder's checkpoint has changed"),
        ({"INFERENCE__flip": True}, "INFERENCE.flip was False and is now True"),
        ({"DATASET__imgSizes": 32}, "DATASET.imgSizes was [32, 40] and is now [32]"),
        ({"TEST__legend": True}, "TEST.legend was False and is now True"),
        ({"DATASET__classes": ""}, "DATASET.classes has changed"),
    ],
)
def test_a_resume_does_not_keep_what_was_made_in_another_way(segment, photos, tmp_path, keys, change):
    segment(photos)
    outcome = segment(photos / "a.png", "--resume", **keys)
    assert made_again(outcome) == {f"their outputs were made in another way ({change})": 1}
    segment(photos / "a.png", out=tmp_path / "fresh", **keys)
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "fresh" / "a.png").read_bytes()
    rest = segment(photos, "--resume", **keys)
    assert "Skipped 1 of 2" in rest.out
    assert len(made_again(rest)) == 1
    assert tree(tmp_path / "out") == ["a.png", "sub/b.png"]


def test_a_resume_knows_the_model_by_its_content(segment, photos, trained, tmp_path):
    segment(photos)
    moved = shutil.copytree(trained, tmp_path / "moved")
    assert "Skipped 2 of 2" in segment(photos, "--resume", DIR=moved, TEST__checkpoint="epoch_2.pth").out


def test_a_resume_segments_a_changed_image_again(segment, photos, tmp_path):
    segment(photos)
    Image.fromarray(NOISE[:20]).save(photos / "a.png")
    outcome = segment(photos, "--resume")
    assert made_again(outcome) == {"they have changed since": 1}
    assert read(tmp_path / "out" / "a.png").shape == (20, 88, 3)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-20], lambda content: b"", lambda content: content[::-1]]
)
def test_a_resume_replaces_a_damaged_output(segment, photos, tmp_path, damage):
    segment(photos, TEST__output="overlay,labels")
    file = tmp_path / "out" / "a_labels.png"
    before = file.read_bytes()
    file.write_bytes(damage(before))
    outcome = segment(photos, "--resume", TEST__output="overlay,labels")
    assert made_again(outcome) == {"outputs of them are missing, or have changed since": 1}
    assert file.read_bytes() == before
    assert len(tree(tmp_path / "out")) == 4


def test_a_resume_keeps_a_label_that_somebody_has_corrected(segment, photos, tmp_path):
    segment(photos / "a.png", TEST__output="labels")
    Image.fromarray(NOISE[..., 0]).save(tmp_path / "out" / "a_labels.png")
    assert len(made_again(segment(photos / "a.png", "--resume", TEST__output="labels"))) == 1
    np.testing.assert_array_equal(read(tmp_path / "out" / "a_labels.png"), NOISE[..., 0])
    assert tree(tmp_path / "out") == ["a_labels.png", "a_segmented_labels.png"]
    assert "Skipped 1 of 1" in segment(photos / "a.png", "--resume", TEST__output="labels").out


def test_the_page_shows_no_prediction_of_another_model(segment, photos, tmp_path):
    keys = {"TEST__output": "labels,html", "TEST__checkpoint": "epoch_1.pth"}
    segment(photos, **keys)
    page = tmp_path / "out" / "predictions.html"
    segment(photos / "a.png", **keys | {"TEST__output": "labels", "TEST__checkpoint": ""})  # without a card
    (photos / "sub" / "b.png").write_bytes(b"no image")
    outcome = segment(photos, "--resume", **keys | {"TEST__checkpoint": ""})
    assert outcome.code == 1
    assert page.read_text().count('<article class="card"') == 1
    segment(photos / "a.png", out=tmp_path / "fresh", **keys | {"TEST__checkpoint": ""})

    def card(file):
        return re.search(r'<article class="card".*?</article>', file.read_text(), re.DOTALL)[0]

    assert card(page) == card(tmp_path / "fresh" / "predictions.html")


def test_pictures_made_into_another_folder_are_no_inputs(segment, photos, tmp_path):
    segment(photos, out=photos / "out")
    outcome = segment(photos, out=photos / "more", TEST__output="overlay")
    assert "Skipped 2 inputs that test.py has made" in outcome.out
    assert tree(photos / "more") == ["a_overlay.png", "sub/b_overlay.png"]


def test_a_resume_keeps_what_the_page_had(segment, photos, tmp_path):
    out = tmp_path / "out"
    segment(photos / "a.png", TEST__output="html")
    first = (out / "predictions.html").read_bytes()
    card = next(line for line in first.splitlines() if line.startswith(b'<article class="card"'))
    # What a killed run leaves: cards of its own, the last of them half written.
    (out / ".predictions.0.cards").write_bytes(b"\n" + card[:100])
    outcome = segment(photos, "--resume", TEST__output="html")
    assert "Skipped 1 of 2" in outcome.out
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


def test_what_a_folder_holds_besides_images_is_counted_at_the_end(segment, photos, tmp_path):
    for name in ("b.heic", "c.mp4", "Thumbs.db"):
        (photos / name).touch()
    keys = {"out": photos, "TEST__output": "labels,scores,html"}
    for _ in range(2):  # the second time with the results of the first
        outcome = segment(photos, **keys)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.endswith(
            "2 images done. Not read: 1 .heic (pip install pillow-heif), 1 .mp4 (name it to segment it).\n"
        )
    (photos / "day2").symlink_to("/mnt/gone")
    outcome = segment(photos, **keys)
    assert (outcome.code, outcome.err) == (
        1,
        f"{photos / 'day2'} is a link to /mnt/gone, which does not exist.\n",
    )


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png"])
def test_of_several_pages_the_first_is_segmented_and_this_is_said(segment, tmp_path, name):
    pages = [Image.fromarray(page) for page in (NOISE, NOISE[::-1], NOISE[:, ::-1])]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    outcome = segment(tmp_path / name)
    assert f"Predictions in [{tmp_path / name}]:\n  (page 1 of 3)\n" in outcome.out
    with Image.open(tmp_path / name) as first:
        np.testing.assert_array_equal(
            read(tmp_path / "out" / "a.png")[:, :44], np.array(first.convert("RGB"))
        )


def test_the_content_of_a_file_counts_not_its_extension(segment, tmp_path):
    (tmp_path / "in").mkdir()
    for name, kind in (("a.jpg", "PNG"), ("b.PNG", "JPEG"), ("c.tif", "WEBP"), ("none", "PNG")):
        Image.fromarray(NOISE).save(tmp_path / "in" / name, format=kind)
    outcome = segment(tmp_path / "in")
    assert outcome.code == 0, outcome.err
    assert tree(tmp_path / "out") == ["a.png", "b.png", "c.png"]
    assert "3 images done. Not read: 1 without extension (name it to segment it)." in outcome.out
    assert segment(tmp_path / "in" / "none").code == 0
    assert "none.png" in tree(tmp_path / "out")


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
    assert f"Skipped {len(names)} of {len(names)}" in again.out


def test_a_list_on_standard_input_continues_after_a_missing_file(segment, photos, tmp_path, monkeypatch):
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


def test_several_processes_share_the_images_and_write_what_one_does(call, tiny, trained, tmp_path):
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
    first, second = run_torchrun(2, ROOT / "test.py", *words, "TEST.result", tmp_path / "two")
    assert (one.code, first.code) == (1, 1), first.err + second.err
    assert one.err == first.err == f"{photos / 'bad.jpg'} is empty.\n1 of 7 images could not be segmented.\n"
    assert second.err == ""
    described = [each.out.count("Predictions in [") for each in (one, first, second)]
    assert described[0] == described[1] + described[2]
    assert min(described) > 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert len(tree(tmp_path / "one")) == 7
    for name in tree(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_camera_is_for_one_process(segment):
    outcome = segment("7", "--procs", 2)
    assert outcome.err == "A camera is read by one process. Call test.py without torchrun and --procs.\n"
