"""`mit-semseg runs`: the state of each folder, whatever is in it."""

import json
import os
import socket

import pytest
from runs_on_disk import HEADER, STAMP, write_run

from mit_semseg.models.weights.checkpoint import save_atomically
from mit_semseg.runs.listing import duration, find_runs
from mit_semseg.runs.run import read_run
from mit_semseg.runtime.claim import NAME, claimed
from mit_semseg.training.history import History

ROWS = ("0.5,1,2.0,40.0,0.1,0.1,,", "1.0,2,1.0,60.0,0.1,0.1,,", "1.0,2,,,,,0.25,50.0")
PROGRESS = (
    "Epoch 1/20  1/2  loss 2.0000  acc 40.00%  lr 1.0e-01  9.0 img/s  data 2%  mem 0.8 GB  left 1:02:03"
)


def only(folder):
    (run,) = find_runs(folder)
    return run


def state(folder):
    run = read_run(folder, "x")
    return run.state, run.note


def test_a_run_in_training_names_its_process_and_the_time_left(tmp_path):
    folder = write_run(tmp_path / "a", ROWS, [PROGRESS])
    with claimed(folder, "trained", "DIR"):
        run = only(tmp_path)
    assert (run.state, run.name, run.model, run.data) == (
        "training",
        "a",
        "resnet50dilated + ppm_deepsup",
        "data",
    )
    assert run.note.startswith(f"process {os.getpid()} on {socket.gethostname()} since 20")
    assert 3600 < run.left_s <= 3723
    assert (run.best.mean_iou, run.best.epoch, run.epochs) == (0.25, 1.0, 1.0)


def test_an_evaluation_in_the_folder_of_a_run_is_not_its_training(tmp_path):
    folder = write_run(tmp_path / "a", ROWS, ["Stopped by SIGTERM after iteration 1 of epoch 2. To resume"])
    with claimed(folder, "written into", "VAL.result"):
        assert state(folder)[0] == "stopped"


def test_the_end_of_the_log_tells_how_a_run_ended(tmp_path):
    saved = "Saved a/encoder_epoch_2.pth"
    start = "Training resnet18 + c1 on cpu: 2 epochs of 2 iterations, 2 images each"
    killed = ("dead", "no process trains here, and the log has no end: it was killed")
    early = "Stopped early: 3 validations were not better than 0.5"
    stopped = "Stopped by SIGINT after iteration 1 of epoch 1"
    cases = {
        "finished": ([start, saved], (1, 2), ("finished", "")),
        "early": ([start, early], (1,), ("finished", early)),
        "stopped": ([start, f"{stopped}. To resume from x, repeat"], (), ("stopped", stopped)),
        "interrupted": ([start, "Ended by SystemExit: 143"], (), ("stopped", "Ended by SystemExit: 143")),
        "failed": ([start, "Ended by UserError: no label"], (1,), ("dead", "UserError: no label")),
        "killed": ([start, PROGRESS], (1,), killed),
        "resumed, then killed": ([start, stopped, start, PROGRESS], (1,), killed),
    }
    for name, (log, epochs, expected) in cases.items():
        folder = write_run(tmp_path / name, ROWS, log, epochs, TRAIN__num_epoch=2)
        assert state(folder) == expected, name


def test_a_file_that_a_killed_process_left_does_not_count_as_training(tmp_path):
    folder = write_run(tmp_path / "a", ROWS, [PROGRESS])
    (folder / NAME).write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
    assert state(folder)[0] == "dead"


def test_files_that_are_half_written_damaged_or_missing_count_as_far_as_they_go(tmp_path):
    folder = write_run(tmp_path / "a", [*ROWS, "1.5,3,0.5"], ["Epoch", "no time"], text="DIR: [")
    (folder / "log.txt").write_bytes(b"\xff\x00 nothing\n2026")
    (folder / "result").mkdir()
    (folder / "result" / "metrics.json").write_text('{"mean_iou": 0.')
    run = only(tmp_path)
    assert (len(run.history), run.model, run.score, run.num_epoch) == (3, "", 0.25, None)
    (tmp_path / "a" / "history.csv").write_text("")
    assert only(tmp_path).score is None


def test_the_config_of_a_run_that_has_saved_nothing_is_in_run_json(tmp_path):
    folder = write_run(tmp_path / "a", text="DIR: old\nMODEL: {arch_encoder: old, arch_decoder: old}\n")
    new = "DIR: new\nMODEL: {arch_encoder: resnet18, arch_decoder: c1}\n"
    (folder / "run.json").write_text(json.dumps({"id": "1", "config": new}))
    assert only(tmp_path).model == "resnet18 + c1"
    (folder / "run.json").write_text("{")
    assert only(tmp_path).model == "old + old"


def test_a_run_of_an_earlier_package_is_read_from_its_newest_history(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    history = History([0.5, 1.0], [2.0, 1.0], [40.0, 60.0])
    save_atomically(history.as_dict(), folder / "history_epoch_1.pth")
    for part in ("encoder", "decoder"):
        (folder / f"{part}_epoch_1.pth").touch()
    run = only(tmp_path)
    assert (run.state, run.epochs, len(run.history)) == ("finished", 1.0, 2)


def test_folders_without_a_training_are_no_runs_and_runs_may_lie_in_each_other(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "config.yaml").write_text(HEADER)  # as data prepare writes one
    write_run(tmp_path / "b")
    write_run(tmp_path / "b" / "c")
    write_run(tmp_path / "b" / "wandb" / "copy")
    write_run(tmp_path / ".hidden")
    assert [run.name for run in find_runs(tmp_path)] == ["b", "b/c"]
    assert [run.name for run in find_runs(tmp_path / "b")] == ["b", "c"]


def test_an_evaluated_run_without_validation_has_the_score_of_the_evaluation(tmp_path, call):
    folder = write_run(tmp_path / "a", ROWS[:2], epochs=(1,), TRAIN__num_epoch=1)
    (folder / "result").mkdir()
    (folder / "result" / "metrics.json").write_text('{"mean_iou": 0.5}')
    outcome = call("runs", tmp_path)
    header, line = outcome.out.splitlines()
    assert header.split() == ["run", "state", "model", "data", "mean", "IoU", "epochs", "left", "updated"]
    assert "0.5000 (evaluated)  1/1" in line
    (entry,) = json.loads(call("runs", tmp_path, "--json").out)
    assert (entry["best_mean_iou"], entry["evaluated_mean_iou"], entry["loss"]) == (None, 0.5, 1.0)


def test_a_real_run_is_finished_and_its_progress_line_is_understood(trained):
    run = read_run(trained, "x")
    assert (run.state, run.epochs, run.model, run.data) == (
        "finished",
        2.0,
        "mobilenetv2dilated + c1",
        "data",
    )
    (line,) = [line for line in (trained / "log.txt").read_text().splitlines() if "Epoch 1/2  1/2" in line]
    copy = write_run(trained.parent / "copy", log=[line.removeprefix(line[: len(STAMP)])])
    with claimed(copy, "trained", "DIR"):
        assert read_run(copy, "x").left_s is not None


def test_bad_input_is_one_message(tmp_path, call):
    outcome = call("runs", tmp_path / "none")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "does not exist" in outcome.err
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in call("runs", tmp_path / "file").err
    write_run(tmp_path / "a")
    outcome = call("runs", tmp_path, "--html", tmp_path / "a")  # a folder
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert call("runs", tmp_path / "a" / "tensorboard").code == 2
    (tmp_path / "empty").mkdir()
    assert call("runs", tmp_path / "empty", "--json").out == "[]\n"
    assert call("runs", tmp_path / "empty").out.startswith("No training has written into ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (5, "5 s"), (61, "1 min"), (7500, "2 h 05 min"), (200_000, "2 d 7 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
