"""The files for people in the folder of a run: log, table, curves, TensorBoard."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

from mit_semseg.config import load_config
from mit_semseg.training.counters import TrainState
from mit_semseg.training.curves import draw_curves
from mit_semseg.training.history import History
from mit_semseg.training.loggers import Loggers
from mit_semseg.training.options import train_options
from mit_semseg.training.progress import Line
from mit_semseg.training.validation import Scores


@pytest.fixture(scope="module")
def interrupted(tiny, tmp_path_factory):
    """The folder of a run of 3 epochs: resumed after epoch 1, then as if killed at the end of epoch 2."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("watched") / "run"
    keys = tiny.overrides(DIR=folder, TRAIN__resume="auto", VAL__every=1)
    words = ["train", "--gpus", "cpu", "--cfg", str(tiny.config), *keys, "TRAIN.num_epoch"]
    assert main([*words, "1"]) == 0
    early = shutil.copy(folder / "state.pth", folder.parent / "state.pth")
    assert main([*words, "2"]) == 0
    shutil.copy(early, folder / "state.pth")
    assert main([*words, "3"]) == 0
    return folder


def scalars(folder):
    """The points that TensorBoard shows, by name: (step, value)."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    points = {
        tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]
    }
    return points, board


@pytest.mark.filterwarnings("ignore")  # from tensorboard itself, when it reads
def test_tensorboard_shows_each_point_once_after_an_interruption(interrupted):
    points, board = scalars(interrupted)
    assert [step for step, _ in points["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in points["val/mean_iou"]] == [2, 4, 6]
    table = [line.split(",") for line in (interrupted / "history.csv").read_text().splitlines()[1:]]
    losses = [float(row[2]) for row in table if row[2]]
    np.testing.assert_allclose([value for _, value in points["train/loss"]], losses, rtol=1e-6)
    assert {"rate/encoder", "rate/decoder", "speed/images_per_second", "speed/memory_gb"} <= points.keys()
    assert set(board.Tags()["images"]) == {f"val/validation/{k}.jpg" for k in range(3)}
    assert "config/text_summary" in board.Tags()["tensors"]


def test_the_log_holds_all_lines_of_all_starts_with_the_date(interrupted):
    lines = (interrupted / "log.txt").read_text().splitlines()
    assert all(line[:2] == "20" and line[10] == " " for line in lines)
    assert sum("Training mobilenetv2dilated + c1 on cpu" in line for line in lines) == 3
    assert sum("Computing in float32" in line for line in lines) == 3
    assert sum("Epoch 2/2  1/2" in line for line in lines) == 1
    assert sum("Epoch 2/3  1/2" in line for line in lines) == 1


def test_the_table_has_a_header_and_one_row_per_point(interrupted):
    header, *rows = (interrupted / "history.csv").read_text().splitlines()
    assert header == "epoch,iteration,loss,accuracy,lr_encoder,lr_decoder,val_mean_iou,val_accuracy"
    assert [row.split(",")[:2] for row in rows] == [
        *(["0.5", "1"], ["1.0", "2"], ["1.0", "2"], ["1.5", "3"], ["2.0", "4"], ["2.0", "4"]),
        *(["2.5", "5"], ["3.0", "6"], ["3.0", "6"]),
    ]
    assert all(len(row.split(",")) == 8 for row in rows)


@pytest.mark.parametrize(("points", "validations"), [(0, 0), (1, 0), (0, 1), (2, 1), (200, 0), (200, 5)])
def test_curves_are_drawn_for_any_history(tmp_path, points, validations):
    history = History()
    for k in range(points):
        history.add((k + 1) / 10, loss=float(np.exp(-k / 50)), accuracy=k / 400, rates=(0.1, 0.1))
    for k in range(validations):
        history.add_validation(k + 1, float("nan") if k == 0 else k / 10, 0.5)
    draw_curves(history, tmp_path / "curves.png", "resnet18 + c1")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1440 if validations else 1020, 432)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_without_tensorboard_its_folder_is_not_created(call, tiny, tmp_path):
    keys = tiny.overrides(DIR=tmp_path / "run", TRAIN__tensorboard=False, TRAIN__num_epoch=1)
    assert call("train", "--gpus", "cpu", "--cfg", tiny.config, *keys).code == 0
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_line_is_appended_to_the_table_without_the_lines_before_it(tmp_path, monkeypatch):
    options = train_options(load_config(None, ["DIR", str(tmp_path), "TRAIN.tensorboard", "False"])).run
    state = TrainState(iteration=20)
    loggers = Loggers(options, state)
    monkeypatch.setattr(History, "rows", None)  # would read all of them
    line = Line(0.5, 0.75, 10.0, 0.0, 1.0)
    for epoch in (0.5, 1.0):
        state.history.add(epoch, line.loss, line.accuracy, (0.1, 0.2))
        loggers.line(line, (0.1, 0.2))
    state.history.add_validation(1, mean_iou=0.25, accuracy=0.5)
    loggers.validated(1, Scores(0.25, 0.5, 3, {}, {}))
    assert (tmp_path / "history.csv").read_text().splitlines()[1:] == [
        "0.5,2500,0.5,75.0,0.1,0.2,,",
        "1.0,5000,0.5,75.0,0.1,0.2,,",
        "1.0,5000,,,,,0.25,50.0",
    ]


def test_the_variable_of_a_notebook_does_not_stop_the_drawing(tmp_path):
    """Colab sets MPLBACKEND for all processes that it starts, to a package that they may lack."""
    program = (
        "import os, sys; from pathlib import Path; from mit_semseg.training.curves import draw_curves; "
        "from mit_semseg.training.history import History; "
        "draw_curves(History(), Path(sys.argv[1]), 'x'); print(os.environ['MPLBACKEND'])"
    )
    backend = "module://a_package_of_a_notebook"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "curves.png")],
        env={**os.environ, "MPLBACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == f"{backend}\n", done.stderr
    assert (tmp_path / "curves.png").is_file()
