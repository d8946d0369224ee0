"""8-bit integers and 16-bit weights: how they are measured, and that a file that loses more is not kept."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from mit_semseg.evaluation import smaller
from mit_semseg.export.opened import open_exported, read_metadata


@pytest.fixture
def shrink(call, tiny, exported, tmp_path):
    """``shrink(words...)`` calls mit-semseg export with the .onnx file of the tiny model."""

    def run(*words, out="small.onnx"):
        return call("export", "--cfg", exported, "--out", tmp_path / out, *words, "TRAIN.workers", 0)

    return run


def logits(path):
    rng = np.random.Generator(np.random.Philox(0))
    image = rng.integers(0, 256, (1, 3, 40, 56), dtype=np.uint8)
    (found,) = open_exported(path).run(["logits"], image)
    return found


def test_int8_is_smaller_and_close_and_measured(shrink, tiny, exported, tmp_path):
    outcome = shrink("--int8", "--calibrate", tiny.folder / "training.odgt", "--max-drop", 100)
    assert outcome.code == 0, outcome.err
    assert len(re.findall(r"(before|after) +[\d.]+ % +[\d.]+ MB +\d+ ms", outcome.out)) == 2
    new = tmp_path / "small.onnx"
    assert new.stat().st_size < 0.4 * exported.stat().st_size
    old, about = read_metadata(exported), read_metadata(new)
    assert about.model == f"{old.model} (int8)"
    assert f"{100 * about.scores['mean_iou']:.2f} %" in outcome.out.splitlines()[-2]
    assert about == replace(old, model=about.model, scores=about.scores)
    assert np.corrcoef(logits(new).ravel(), logits(exported).ravel())[0, 1] > 0.9
    assert list(tmp_path.glob("*small*")) == [new]


def test_weights_take_seven_bits_so_that_processors_without_vnni_do_not_overflow(
    shrink, tiny, exported, tmp_path
):
    onnx = pytest.importorskip("onnx")
    outcome = shrink("--int8", "--calibrate", tiny.folder / "training.odgt", "--max-drop", 100)
    assert outcome.code == 0, outcome.err
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(str(tmp_path / "small.onnx")).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4
    ]
    assert weights
    assert 60 <= max(np.abs(each.astype(int)).max() for each in weights) <= 64


def test_float16_has_half_the_size_and_computes_in_float32(shrink, call, exported, tmp_path):
    outcome = shrink("--float16", "--max-drop", 100)
    assert outcome.code == 0, outcome.err
    new = tmp_path / "small.onnx"
    assert new.stat().st_size < 0.6 * exported.stat().st_size
    wanted = logits(exported)
    np.testing.assert_allclose(logits(new), wanted, atol=0.01 * np.abs(wanted).max())
    again = call("export", "--cfg", new, "--out", tmp_path / "again.onnx", "--float16")
    assert (again.code, "small.onnx has been made smaller already" in again.err) == (2, True)


def test_a_file_that_loses_more_is_not_kept(shrink, tmp_path, monkeypatch):
    scores = iter([0.8, 0.794])
    monkeypatch.setattr(smaller, "_mean_iou", lambda *_: next(scores))
    outcome = shrink("--float16")
    assert outcome.code == 2
    assert "Nothing was written: 0.60 points of mean IoU are lost, and --max-drop is 0.5." in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_cannot_calibrate_is_refused(shrink, tiny, tmp_path):
    records = tiny.records("training")
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "bare.odgt").write_text(json.dumps({"fpath_img": records[0]["fpath_img"]}) + "\n")
    (folder / "lost.odgt").write_text(json.dumps({**records[0], "fpath_img": "training/9.jpg"}) + "\n")
    (folder / "none.odgt").write_text("")
    for name, message in (
        ("bare.odgt", "fpath_segm"),
        ("lost.odgt", "training/9.jpg does not exist. See "),
        ("none.odgt", "none.odgt"),
        ("no.odgt", "no.odgt"),
    ):
        outcome = shrink("--int8", "--calibrate", folder / name)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert message in outcome.err
    assert not (tmp_path / "small.onnx").exists()


@pytest.mark.parametrize(
    ("words", "out", "message"),
    [
        (["--int8"], "small.onnx", "--int8 and --calibrate LIST need each other"),
        (["--calibrate", "a.odgt"], "small.onnx", "--int8 and --calibrate LIST need each other"),
        (["--float16"], "small.pt2", "is not a .pt2 file"),
        (["--float16", "--max-drop", "nan"], "small.onnx", "'nan' is not a number of points of at least 0"),
        (["--float16", "--int8", "--calibrate", "a.odgt"], "small.onnx", "exclude each other"),
        (["--float16", "--output", "scores"], "small.onnx", "keeps its own"),
        (["--float16", "DATASET.num_class", "4"], "small.onnx", "has 3 classes, but DATASET.num_class is 4"),
        ([], "small.onnx", "is an exported model"),
    ],
)
def test_a_contradiction_has_one_message(shrink, tmp_path, words, out, message):
    outcome = shrink(*words, out=out)
    assert outcome.code == 2
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []
