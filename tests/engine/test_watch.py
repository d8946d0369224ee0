"""What a person finds in the folder of a run: log, table, curves, TensorBoard."""

import shutil

import numpy as np
import pytest
from PIL import Image

from mit_semseg.engine.training.curves import draw_curves
from mit_semseg.engine.training.history import History


@pytest.fixture(scope="module")
def interrupted(tiny, tmp_path_factory):
    """The folder of a run of 3 epochs: gone on with behind epoch 1, then as if killed at the end of 2."""
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


@pytest.mark.filterwarnings("ignore")  # tensorboard's own, when it reads
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


def test_the_table_has_a_header_and_a_row_a_point(interrupted):
    header, *rows = (interrupted / "history.csv").read_text().splitlines()
    assert header == "epoch,iteration,loss,accuracy,lr_encoder,lr_decoder,val_mean_iou,val_accuracy"
    assert [row.split(",")[:2] for row in rows] == [
        *(["0.5", "1"], ["1.0", "2"], ["1.0", "2"], ["1.5", "3"], ["2.0", "4"], ["2.0", "4"]),
        *(["2.5", "5"], ["3.0", "6"], ["3.0", "6"]),
    ]
    assert all(len(row.split(",")) == 8 for row in rows)


@pytest.mark.parametrize("points", [0, 1, 2, 200])
@pytest.mark.parametrize("validations", [0, 1, 5])
def test_curves_are_drawn_of_any_course(tmp_path, points, validations):
    history = History()
    for k in range(points):
        history.add((k + 1) / 10, loss=float(np.exp(-k / 50)), accuracy=k / 400, rates=(0.1, 0.1))
    for k in range(validations):
        history.add_validation(k + 1, float("nan") if k == 0 else k / 10, 0.5)
    draw_curves(history, tmp_path / "curves.png", "resnet18 + c1")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1440 if validations else 1020, 432)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_without_tensorboard_there_is_no_folder_of_it(call, tiny, tmp_path):
    keys = tiny.overrides(DIR=tmp_path / "run", TRAIN__tensorboard=False, TRAIN__num_epoch=1)
    assert call("train", "--gpus", "cpu", "--cfg", tiny.config, *keys).code == 0
    assert not (tmp_path / "run" / "tensorboard").exists()
