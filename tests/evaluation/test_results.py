import hashlib
import json
import math
import re

import numpy as np
import pytest
from commands import ROOT
from forked import run_python, run_torchrun

from mit_semseg.config import load_config
from mit_semseg.data.classes import ClassTable, palette
from mit_semseg.errors import UserError
from mit_semseg.evaluation.results import metrics_of, write_results
from mit_semseg.evaluation.tally import Tally

TABLE = ClassTable(("sky", "car", "train"), palette(3))


def tally_of(*images):
    """A tally of images given as (prediction, label), one row of pixels each."""
    tally = Tally(TABLE)
    for index, (prediction, label) in enumerate(images):
        item = {"info": f"{index}.jpg", "img_ori": np.zeros((1, len(label), 3), np.uint8)}
        tally.include(tally.score(index, item, np.array([label]), np.array([prediction])))
    return tally


@pytest.fixture
def config():
    return load_config(None, ["DATASET.num_class", "3", "DIR", "run"])


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "encoder_epoch_1.pth"
    file.write_bytes(b"weights")
    return [file]


def test_scores_by_hand(config, weights):
    tally = tally_of(([0, 0, 1, 1, 0], [0, 0, 0, 1, -1]))  # train occurs nowhere
    tally.seconds, tally.timed = 0.5, 1
    metrics = metrics_of(tally, TABLE, config, weights)
    assert metrics["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics["mean_iou_all"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert metrics["frequency_weighted_iou"] == pytest.approx((3 * 2 / 3 + 1 / 2) / 4)
    assert metrics["dice"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert (metrics["images"], metrics["images_per_second"]) == (1, 2)
    sky, _, train = metrics["classes"]
    assert sky == pytest.approx(
        {"name": "sky", "iou": 2 / 3, "accuracy": 2 / 3, "precision": 1.0, "dice": 4 / 5, "pixels": 3}
    )
    assert train == {
        "name": "train",
        **dict.fromkeys(("iou", "accuracy", "precision", "dice")),
        "pixels": 0,
    }
    assert metrics["mean_iou_interval"]["low"] is None  # one image
    assert metrics["config"]["DIR"] == "run"
    assert metrics["config"]["DATASET"]["imgSizes"] == [300, 375, 450, 525, 600]
    digest = hashlib.sha256(b"weights").hexdigest()
    assert metrics["weights"] == [{"path": str(weights[0]), "sha256": digest}]


def test_the_files_hold_what_was_counted_and_json_has_no_nan(config, weights, tmp_path):
    tally = tally_of(([0, 1], [0, 0]), ([0, 0], [-1, -1]))
    report = write_results(tmp_path / "result", tally, TABLE, config, weights)
    assert report == tmp_path / "result" / "report.html"

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "result" / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == metrics_of(tally, TABLE, config, weights)
    np.testing.assert_array_equal(np.load(tmp_path / "result" / "confusion.npy"), tally.matrix.counts)
    assert sorted(path.name for path in report.parent.iterdir()) == [
        *("confusion.npy", "metrics.json", "report.html")
    ]


def test_nothing_labelled_has_no_score(config, weights, tmp_path):
    tally = tally_of(([0, 1], [-1, -1]))
    metrics = metrics_of(tally, TABLE, config, weights)
    assert metrics["mean_iou"] is metrics["pixel_accuracy"] is metrics["images_per_second"] is None
    assert write_results(tmp_path, tally, TABLE, config, weights).stat().st_size > 1000


def test_shares_join_to_the_whole(config, weights):
    rng = np.random.Generator(np.random.Philox(4))
    images = [(rng.integers(0, 3, 30), rng.integers(-1, 3, 30)) for _ in range(9)]
    whole = metrics_of(tally_of(*images), TABLE, config, weights)
    shares = [Tally(TABLE) for _ in range(4)]
    for index, (prediction, label) in enumerate(images):
        item = {"info": "a.jpg", "img_ori": np.zeros((1, 30, 3), np.uint8)}
        share = shares[index % 3]  # the last one stays empty
        share.include(share.score(index, item, label[None], prediction[None]))
    first = shares.pop()
    for share in shares:
        first.merge(share)
    assert metrics_of(first, TABLE, config, weights) == whole
    assert not math.isclose(whole["mean_iou_interval"]["low"], whole["mean_iou_interval"]["high"])


def test_a_folder_that_cannot_be_written_is_named(config, weights, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken.metrics\.json cannot be written"):
        write_results(tmp_path / "taken", tally_of(([0], [0])), TABLE, config, weights)


@pytest.mark.parametrize("name", ["metrics.json", "confusion.npy", "report.html"])
def test_a_result_that_cannot_be_replaced_leaves_the_others_as_they_were(config, weights, tmp_path, name):
    folder = tmp_path / "result"
    write_results(folder, tally_of(([0], [0])), TABLE, config, weights)
    (folder / name).unlink()
    (folder / name).mkdir()
    old = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=f"{name} cannot be written"):
        write_results(folder, tally_of(([1], [0])), TABLE, config, weights)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == old


def test_what_is_asked_for_is_in_the_metrics(config, weights):
    asked = Tally(TABLE, boundary=True, calibration=True)
    item = {"info": "a.jpg", "img_ori": np.zeros((1, 4, 3), np.uint8)}
    confidence = np.array([[0.5, 0.75, 1, 0.25]])
    asked.include(asked.score(0, item, np.array([[0, 0, 1, -1]]), np.array([[0, 1, 1, 1]]), confidence))
    metrics = metrics_of(asked, TABLE, config, weights)
    assert metrics["boundary_iou"] == 0.5  # a row of pixels is a contour as a whole
    assert [entry["boundary_iou"] for entry in metrics["classes"]] == [0.5, 0.5, None]
    assert metrics["calibration_error"] == pytest.approx((0.5 + 0.75 + 0) / 3)
    filled = [part for part in metrics["calibration"] if part["pixels"]]
    assert [(part["accuracy"], part["confidence"]) for part in filled] == [(1, 0.5), (0, 0.75), (1, 1)]
    assert metrics["calibration"][0]["accuracy"] is None
    assert (
        not {"boundary_iou", "calibration_error", "calibration"}
        & metrics_of(tally_of(([0], [0])), TABLE, config, weights).keys()
    )


def test_calibration_without_probabilities_is_refused():
    item = {"info": "a.jpg", "img_ori": np.zeros((1, 1, 3), np.uint8)}
    with pytest.raises(ValueError, match="confidence is None"):
        Tally(TABLE, calibration=True).score(0, item, np.array([[0]]), np.array([[0]]))


def test_one_two_and_three_processes_write_and_print_the_same(tiny, trained, call, tmp_path):
    found = []
    for processes in (1, 2, 3):
        folder = tmp_path / str(processes)
        words = ("--gpus", "cpu", "--cfg", tiny.config, "DIR", trained, "VAL.result", folder)
        words += ("VAL.boundary_iou", True, "VAL.calibration", True, "VAL.batch_size", 2)
        if processes == 1:
            outcome = call("eval", *words)
        elif processes == 2:
            outcome, other = run_torchrun(2, ROOT / "eval_multipro.py", *words)
            assert (other.code, other.out) == (0, ""), other.err
        else:
            outcome = run_python(ROOT / "eval_multipro.py", *words, "--procs", processes, forking=True)
        assert outcome.code == 0, outcome.err
        out = re.sub(r"(?m)^\d\d:\d\d:\d\d  Checkpoint: .*\n", "", outcome.out)
        assert out.count("Mean IoU") == 1
        assert f"Report: {folder / 'report.html'}\n" in out
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        speed = metrics.pop("images_per_second")
        del metrics["config"]["VAL"], metrics["config_sha256"]  # they name the folder
        page = (folder / "report.html").read_text(encoding="utf-8")
        page, out = (
            text.replace(f"{speed:.1f} a second", "").replace(str(folder), "") for text in (page, out)
        )
        found.append((metrics, (folder / "confusion.npy").read_bytes(), page, out))
        assert not (folder / "scored").exists()
    assert found[0] == found[1] == found[2]
