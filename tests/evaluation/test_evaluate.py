import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked import in_processes
from PIL import Image

from mit_semseg.config import load_config
from mit_semseg.data.classes import ClassTable, palette
from mit_semseg.data.datasets import ValDataset
from mit_semseg.errors import UserError
from mit_semseg.evaluation.evaluate import _evaluate, _options, _picture_paths, evaluate
from mit_semseg.evaluation.journal import Journal
from mit_semseg.evaluation.results import summary
from mit_semseg.evaluation.tally import Tally
from mit_semseg.runtime.distributed import gather_from_processes

CPU = [torch.device("cpu")]


@pytest.fixture
def score(tiny, trained, capsys):
    """The confusion matrix of the trained model, and what was printed."""

    def run(**keys):
        config = load_config(str(tiny.config), tiny.overrides(**{"DIR": trained, **keys}))
        capsys.readouterr()
        counts = evaluate(config, CPU).counts
        return counts, capsys.readouterr().out

    return run


def test_the_table_has_a_line_a_class_and_then_the_means():
    table = ClassTable(("sky", "car", "train"), palette(3))
    tally = Tally(table)
    item = {"info": "a.jpg", "img_ori": np.zeros((1, 5, 3), np.uint8)}
    tally.include(tally.score(0, item, np.array([[0, 0, 0, 1, -1]]), np.array([[0, 0, 1, 1, 0]])))
    # sky: 2 of 3 right, union 3; car: 1 of 1 right, union 2; train occurs nowhere.
    assert summary(tally, table).splitlines() == [
        "class                      IoU  accuracy        pixels",
        "sky                     0.6667    0.6667             3",
        "car                     0.5000    1.0000             1",
        "train                        -         -             0",
        "",
        "mean_iou                0.5833",
        "mean_iou_all            0.3889",
        "pixel_accuracy          0.7500",
        "mean_accuracy           0.8333",
        "frequency_weighted_iou  0.6250",
        "dice                    0.7333",
        "",
        "[Eval Summary]: 1 images",
        "Mean IoU: 0.5833, Accuracy: 75.00%",
    ]


def test_what_is_asked_for_besides_has_a_column_and_lines_of_its_own(score):
    _, out = score(VAL__boundary_iou=True, VAL__calibration=True)
    assert re.search(r"^class +IoU  boundary  accuracy +pixels$", out, re.MULTILINE)
    assert re.search(r"^brick( +(0\.\d{4}|1\.0000|-)){3} +[\d,]+$", out, re.MULTILINE)
    assert re.search(r"^boundary_iou +0\.\d{4}\ncalibration_error +0\.\d{4}$", out, re.MULTILINE)


def test_every_labelled_pixel_is_counted_once(score, tiny):
    counts, out = score()
    labels = [Image.open(tiny.folder / record["fpath_segm"]) for record in tiny.records("validation")]
    pixels = np.concatenate([np.asarray(label).ravel() for label in labels])
    for label in labels:
        label.close()
    np.testing.assert_array_equal(counts.sum(1), np.bincount(pixels, minlength=4)[1:])
    assert "[Eval Summary]: 3 images" in out


def test_the_scores_are_printed_under_the_names_of_the_classes(score):
    _, out = score()
    for name in ("brick", "lawn", "pool", "mean_iou", "mean_iou_all", "pixel_accuracy", "mean_accuracy"):
        assert re.search(rf"^{name} +(0\.\d{{4}}|1\.0000|-)", out, re.MULTILINE), name
    assert re.search(r"^Mean IoU: 0\.\d{4}, Accuracy: \d+\.\d\d%$", out, re.MULTILINE)


def test_the_newest_epoch_is_scored_unless_another_is_named(score):
    newest, second = score()[0], score(VAL__checkpoint="epoch_2.pth")[0]
    first = score(VAL__checkpoint="epoch_1.pth")[0]
    np.testing.assert_array_equal(newest, second)
    assert (first != second).any()


def test_workers_change_nothing(score):
    np.testing.assert_array_equal(score(TRAIN__workers=2)[0], score()[0])


def test_scales_are_averaged(score):
    one, other, both = (score(DATASET__imgSizes=sizes)[0] for sizes in ("(32,)", "(40,)", "(32, 40)"))
    assert one.sum() == other.sum() == both.sum()
    assert (one != both).any() or (other != both).any()


def test_visualize_draws_image_truth_and_prediction_below_the_paths_of_the_list(own_tiny, trained, call):
    run = shutil.copytree(trained, own_tiny.folder / "own")
    outcome = call(
        *("eval", "--gpus", "cpu", "--cfg", own_tiny.config, "DIR", run, "VAL.visualize", True),
    )
    assert outcome.code == 0
    assert f"Pictures: {run / 'result'}\n" in outcome.out
    for record in own_tiny.records("validation"):
        name = record["fpath_img"].replace(".jpg", ".png")
        with Image.open(run / "result" / name) as picture:
            assert picture.size == (3 * record["width"], record["height"])
            image, truth, prediction = np.split(np.asarray(picture), 3, axis=1)
        with Image.open(own_tiny.folder / record["fpath_img"]) as original:
            np.testing.assert_array_equal(image, np.asarray(original))
        colors = {(0, 0, 0), (200, 60, 40), (60, 180, 60), (40, 80, 200)}
        assert {tuple(color) for color in truth.reshape(-1, 3).tolist()} <= colors
        assert {tuple(color) for color in prediction.reshape(-1, 3).tolist()} <= colors - {(0, 0, 0)}


def test_evaluating_leaves_the_run_as_it_is_and_writes_into_one_folder(score, trained, tmp_path):
    def files():
        return {path: path.stat().st_mtime_ns for path in trained.rglob("*")}

    before = files()
    score(VAL__result=tmp_path / "scores")
    assert files() == before
    written = sorted(path.name for path in (tmp_path / "scores").iterdir())
    assert written == ["confusion.npy", "metrics.json", "report.html"]


def test_no_two_images_of_a_list_share_a_picture_and_none_leads_out(tmp_path):
    names = ["x/a.jpg", "x/a.png", "/x/a.jpg", "/y/b.jpg"]
    records = [{"fpath_img": name, "fpath_segm": "l.png"} for name in names]
    options = SimpleNamespace(imgSizes=(32,), imgMaxSize=64, padding_constant=8)
    targets = _picture_paths(ValDataset("", records, options), tmp_path)
    assert len(set(targets)) == len(names)
    assert all(target.resolve().is_relative_to(tmp_path.resolve()) for target in targets)


def evaluate_own(process, options, journals):
    """The message with which a process refuses to evaluate, given its own journal."""
    try:
        _evaluate(process, options, journals[process.rank])
    except UserError as error:
        return gather_from_processes(str(error))
    return gather_from_processes("")


def test_processes_that_found_different_weights_do_not_mix_their_scores(tiny, trained, tmp_path):
    cfg = load_config(str(tiny.config), ["DIR", str(trained)])
    options = _options(cfg, tmp_path)
    images: list[list[None]] = [[]] * len(options.dataset)
    journals = [Journal(tmp_path / name, {"the encoder's checkpoint": name * 64}, images) for name in "ab"]
    first, second = in_processes(2, evaluate_own, options, journals)
    assert first == second
    assert "does not evaluate the same as process 0" in first
    assert "the encoder's checkpoint differs" in first
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def two_classes(own_tiny, tmp_path, call):
    """The words that evaluate a model of two classes."""
    for file in own_tiny.folder.glob("*/*.png"):
        values = np.array(Image.open(file))
        Image.fromarray(np.minimum(values, 2)).save(file)
    keys = {"DIR": tmp_path / "run", "DATASET__num_class": 2, "DATASET__classes": "", "TRAIN__num_epoch": 1}
    words = "--gpus", "cpu", "--cfg", own_tiny.config, *own_tiny.overrides(**keys)
    assert call("train", *words).code == 0
    return "eval", *words


def test_the_best_threshold_of_two_classes_is_found_and_its_scores_are_those_of_using_it(
    two_classes, call, tmp_path
):
    def metrics(*words):
        done = call(*two_classes, "VAL.threshold", "auto", *words)
        assert done.code == 0, done.err
        return json.loads((tmp_path / "run" / "result" / "metrics.json").read_text()), done.out

    found, out = metrics()
    best = found["threshold"]["best"]
    assert f"To use the best one: INFERENCE.threshold {best['threshold']:g}\n" in out
    default = next(point for point in found["threshold"]["curve"] if point["threshold"] == 0.5)
    assert best["f1"] > default["f1"]
    assert default["recall"] == pytest.approx(found["classes"][1]["accuracy"])
    assert default["precision"] == pytest.approx(found["classes"][1]["precision"])
    used, _ = metrics("INFERENCE.threshold", str(best["threshold"]))
    assert used["threshold"]["curve"] == found["threshold"]["curve"]
    assert used["classes"][1]["dice"] == pytest.approx(best["f1"], abs=2e-3)  # rounding at the threshold
    page = (tmp_path / "run" / "result" / "report.html").read_text()
    assert f"INFERENCE.threshold {best['threshold']:g}</code>" in page
    assert page.count('<polyline class="curve') >= 3


def test_a_threshold_without_two_classes_is_refused(call, tiny):
    for key, value in (("VAL.threshold", "auto"), ("INFERENCE.threshold", "0.3")):
        refused = call("eval", "--cfg", tiny.config, key, value)
        assert refused.code == 2
        assert (
            refused.err
            == f"{key} is {value}, but it needs two classes, and DATASET.num_class is 3. Remove it.\n"
        )
