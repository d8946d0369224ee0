"""A stopped or killed training resumes as if nothing had happened. It never overwrites another run."""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch
from commands import ROOT
from forked import Command
from two_processes import train_in_two_processes

from mit_semseg.config import load_config
from mit_semseg.data.datasets import TrainDataset
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training.counters import TrainState
from mit_semseg.training.options import train_options
from mit_semseg.training.resume import agree_on_start
from mit_semseg.training.setup import build_run, train_dataset
from mit_semseg.training.train import batches
from mit_semseg.training.validation import Validation

# A signal may interrupt the main thread between opening a file and entering its ``with`` block.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
)

CPU = torch.device("cpu")
# Each seed determines when a run is killed. To try others:
# KILL_SEEDS="7 8 9" pytest tests/training/test_resume.py
KILL_SEEDS = [int(seed) for seed in os.environ.get("KILL_SEEDS", "1 5").split()]
RUN = {
    "TRAIN__epoch_iters": 5,
    "TRAIN__save_iters": 2,
    "TRAIN__disp_iter": 3,
    "TRAIN__ema_decay": 0.9,
    "TRAIN__tensorboard": False,
    "TRAIN__resume": "auto",
    "VAL__every": 1,
}


@pytest.fixture
def words(tiny, tmp_path):
    """``words("run", TRAIN__seed=1)`` is a command line that trains in a folder of that name."""

    def build(name, **keys):
        own = tiny.overrides(**{**RUN, **keys})
        return ["train", "--gpus", "cpu", "--cfg", str(tiny.config), "DIR", str(tmp_path / name), *own]

    return build


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("whole") / "run"
    words = ["train", "--gpus", "cpu", "--cfg", str(tiny.config), "DIR", str(folder), *tiny.overrides(**RUN)]
    assert main(words) == 0
    return folder


def equal(one, other):
    """Whether the contents of two checkpoints are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def differences(folder, other):
    """The files that differ between two runs; the configs may differ in DIR, the identities always do."""
    names = {path.name for run in (folder, other) for path in run.iterdir() if path.is_file()}
    found = []
    for name in sorted(names - {"log.txt", "curves.png", "config.yaml", "run.json"}):
        files = [run / name for run in (folder, other)]
        if not all(file.is_file() for file in files):
            found.append(name)
        elif name.endswith(".pth"):
            contents = [torch.load(file, weights_only=True) for file in files]
            for content in contents:
                content.pop("config", None)
            found += [] if equal(*contents) else [name]
        elif files[0].read_bytes() != files[1].read_bytes():
            found.append(name)
    return found


def signal_when(folder, text, number, times=1):
    """Send this process a signal once the log of a run says ``text``."""

    def watch():
        log = Path(folder, "log.txt")
        while not (log.is_file() and text in log.read_text()):
            time.sleep(0.001)
        for _ in range(times):
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


# Killed, at any moment


@pytest.mark.parametrize("seed", KILL_SEEDS)
def test_a_run_that_is_killed_at_random_ends_with_the_bits_of_one_that_is_not(
    words, whole, call, tmp_path, seed
):
    """The number of workers does not matter either. benchmarks/resume.py repeats this twenty times."""
    with Command(ROOT / "train.py", *words("run", TRAIN__workers=2)[1:]) as run:  # its end kills
        while "Epoch 1/" not in run.out.readline():
            assert run.is_running()
        time.sleep(random.Random(seed).uniform(0, 3))  # with seeds 1 and 5: 0.4 and 1.9 seconds
    done = call(*words("run", TRAIN__workers=1))
    assert done.code == 0, done.err
    assert differences(whole, tmp_path / "run") == []


def test_a_run_recovers_from_a_crash_between_the_files_of_an_epoch(words, whole, call, tmp_path):
    """A kill there leaves the state of the middle of epoch 2 with files of its end."""
    folder = tmp_path / "run"
    thread = signal_when(folder, "Epoch 2/2  3/5", signal.SIGTERM)
    assert call(*words("run")).code == 143
    thread.join()
    (folder / "history_epoch_2.pth").write_bytes(b"from before the crash")
    with (folder / "history.csv").open("a") as table:
        table.write("1.8,9,")
    assert call(*words("run")).code == 0
    assert differences(whole, folder) == []


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(40)`` is a folder on a disk of 40 MB; called again, the disk grows or shrinks."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(megabytes):
        remount = "remount," if folder.is_mount() else ""
        options = ["-t", "tmpfs", "-o", f"{remount}size={megabytes}m", "tmpfs", str(folder)]
        if (
            shutil.which("mount") is None
            or subprocess.run(["mount", *options], capture_output=True).returncode
        ):
            pytest.skip("mounts a small disk, which takes root")
        return folder

    yield size
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_last_good_state_and_the_run_resumes_from_it(words, whole, call, small_disk):
    disk = small_disk(68)  # MiB; the first epoch takes up to 64, the second 72
    full = call(*words("run", DIR=disk / "run"))
    assert full.code == 2
    assert re.match(
        rf"{disk}/run/state\.pth cannot be written: No space left on device\. "
        rf"The folder is {disk}/run\. Make room there, or choose another folder\.\n$",
        full.err,
    )
    assert not list((disk / "run").glob(".*"))
    assert torch.load(disk / "run" / "state.pth", weights_only=True)["course"]["iteration"] == 10
    small_disk(200)
    assert call(*words("run", DIR=disk / "run")).code == 0
    assert differences(whole, disk / "run") == []


# Stopped


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_first_and_the_log_says_how_to_resume(words, whole, call, tmp_path, number, code):
    folder = tmp_path / "run"
    before = signal.getsignal(number)
    thread = signal_when(
        folder, "Epoch 1/2  3/5", number, times=2
    )  # a terminal and a launcher may both do it
    stopped = call(*words("run"))
    thread.join()
    assert signal.getsignal(number) is before
    assert stopped.code == code
    assert stopped.err == ""
    last = stopped.out.splitlines()[-1]
    assert f"Stopped by {signal.Signals(number).name} after iteration " in last
    assert last.endswith(f"To resume from {folder}/state.pth, repeat the command with TRAIN.resume auto")
    assert not (folder / "encoder_epoch_2.pth").exists()
    assert call(*words("run")).code == 0
    assert differences(whole, folder) == []
    log = (folder / "log.txt").read_text()
    assert log.count("Training mobilenetv2dilated") == 2
    assert ", resumed after iteration " in log


@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_also_ends_a_wait_for_data(words, call, tmp_path, monkeypatch, workers):
    def hang(dataset, index, sub_batch=TrainDataset.sub_batch):
        if index == 3:
            time.sleep(600)
        return sub_batch(dataset, index)

    monkeypatch.setattr("mit_semseg.data.loader._END_S", 0.5)
    monkeypatch.setattr("mit_semseg.training.train.dry_run", lambda *args: None)  # it reads any sub-batch
    monkeypatch.setattr(TrainDataset, "sub_batch", hang)
    thread = signal_when(tmp_path / "run", "Epoch 1/2  3/5", signal.SIGTERM)
    start = time.monotonic()
    stopped = call(*words("run", TRAIN__workers=workers, TRAIN__disp_iter=1))
    thread.join()
    assert (stopped.code, stopped.err) == (143, "")
    assert time.monotonic() - start < 60
    assert "Stopped by SIGTERM after iteration 3 of epoch 1." in stopped.out
    assert torch.load(tmp_path / "run" / "state.pth", weights_only=True)["course"]["iteration"] == 3


def test_a_signal_also_ends_a_validation_and_the_resumed_run_repeats_it(
    words, whole, call, tmp_path, monkeypatch
):
    def hang(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)

    with monkeypatch.context() as patched:
        patched.setattr(Validation, "score", hang)
        stopped = call(*words("run"))
    assert (stopped.code, stopped.err) == (143, "")
    assert "Stopped by SIGTERM after iteration 5 of epoch 1." in stopped.out
    assert call(*words("run")).code == 0
    assert differences(whole, tmp_path / "run") == []


def test_dropout_draws_what_it_would_have_drawn(words, call, tmp_path):
    keys = {"MODEL__arch_decoder": "ppm", "MODEL__decoder_dim": 16, "TRAIN__epoch_iters": 4}
    keys |= {"TRAIN__num_epoch": 1, "VAL__every": 0, "TRAIN__disp_iter": 1, "TRAIN__ema_decay": 0}
    assert call(*words("whole", **keys)).code == 0
    thread = signal_when(tmp_path / "parts", "Epoch 1/1  1/4", signal.SIGTERM)
    assert call(*words("parts", **keys)).code == 143
    thread.join()
    assert call(*words("parts", **keys)).code == 0
    assert differences(tmp_path / "whole", tmp_path / "parts") == []


def test_several_processes_stop_after_the_same_iteration_and_one_resumes(words, tiny, call, tmp_path):
    endless = words("run", TRAIN__epoch_iters=10**6, TRAIN__save_iters=0, VAL__every=0)
    with Command(ROOT / "train.py", "--procs", "2", *endless[1:], forking=True) as run:
        while "Epoch 1/" not in run.out.readline():
            assert run.is_running()
        os.killpg(run.pid, signal.SIGTERM)  # as a scheduler does; the launcher passes it on as well
        outcome = run.finish()
    assert (outcome.code, outcome.err) == (143, "")
    assert outcome.out.count("Stopped by SIGTERM after iteration ") == 1
    state = torch.load(tmp_path / "run" / "state.pth", weights_only=True)["course"]
    assert state["sub_batches"] == 2 * state["iteration"] > 0
    next_line = state["iteration"] + 6 - state["iteration"] % 3
    thread = signal_when(tmp_path / "run", f" {next_line}/", signal.SIGTERM)
    assert call(*endless).code == 143
    thread.join()
    later = torch.load(tmp_path / "run" / "state.pth", weights_only=True)["course"]
    assert later["iteration"] > state["iteration"]
    assert later["sub_batches"] - state["sub_batches"] == later["iteration"] - state["iteration"]


def test_processes_that_accumulate_round_alike_after_they_resume(words, tmp_path):
    keys = {"TRAIN__accumulate": 2, "TRAIN__epoch_iters": 1, "TRAIN__lr_schedule": "constant"}
    runs = [("parts", 1), ("parts", 2), ("whole", 2)]
    train_in_two_processes(*(words(name, TRAIN__num_epoch=n, VAL__every=0, **keys) for name, n in runs))
    assert differences(tmp_path / "whole", tmp_path / "parts") == []


def test_a_new_average_starts_from_the_resumed_weights(words, tiny, call):
    options = train_options(load_config(str(tiny.config), words("run")[5:]))
    assert call(*words("run", TRAIN__num_epoch=1, TRAIN__ema_decay=0, VAL__every=0)).code == 0
    alone = ProcessInfo(0, 1, CPU)
    this = build_run(alone, options, agree_on_start(alone, options.run), [CPU])
    average = this.average.state_dict()
    assert average["updates"] == 0
    assert equal(average["parameters"], dict(this.module.named_parameters()))
    assert equal(average["buffers"], dict(this.module.named_buffers()))


# The order of the data


def test_another_number_of_processes_resumes_with_the_next_sub_batch_of_the_same_order(words, tiny):
    once, twice = (
        train_options(load_config(str(tiny.config), [*words("run")[5:], "TRAIN.accumulate", n])) for n in "12"
    )
    dataset = train_dataset(once)

    def images(options, state, *, rank=0, of=1, devices=1):
        process = ProcessInfo(rank, of, CPU)
        with batches(options.run, dataset, process, devices, state) as loaded:
            for rounds in loaded:
                yield [shard["info"] for shards in rounds for shard in shards]

    alone = images(once, TrainState())
    seen = [next(alone) for _ in range(3)]
    pair = [images(once, TrainState(iteration=3, sub_batches=3), rank=rank, of=2) for rank in range(2)]
    seen += [next(process) for _ in range(2) for process in pair]
    replicas = images(twice, TrainState(iteration=5, sub_batches=7), devices=3)
    seen.append(next(replicas))
    assert [info for step in seen for info in step] == [dataset.sub_batch(i)["info"] for i in range(13)]
    assert sum(1 for _ in replicas) == 10 - 5 - 1  # iterations left


def test_replicas_resumed_as_processes_have_the_course_of_processes(words, call, tmp_path):
    """Both use two sub-batches per iteration, so only rounding differs."""
    keys = {
        "TRAIN__lr_encoder": 1e-4,
        "TRAIN__lr_decoder": 1e-4,
        "VAL__every": 0,
    }
    first = words("parts", TRAIN__parallel="dp", **keys)
    thread = signal_when(tmp_path / "parts", "Epoch 1/2  3/5", signal.SIGINT)
    assert call(*first, "--procs", 2).code == 130
    thread.join()
    train_in_two_processes(words("whole", **keys), words("parts", **keys))
    courses = [
        torch.load(tmp_path / name / "history_epoch_2.pth", weights_only=True)["train"]
        for name in ("whole", "parts")
    ]
    assert courses[0]["epoch"] == courses[1]["epoch"]
    assert courses[0]["loss"] == pytest.approx(courses[1]["loss"], rel=1e-3)


# Whose folder it is


def test_a_folder_that_holds_a_run_is_refused_with_both_choices_and_left_alone(words, whole, call):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    refused = call(*words("run", TRAIN__resume="off", DIR=whole))
    assert refused.code == 2
    assert refused.err == (
        f"{whole} already holds a run. Set TRAIN.resume auto to resume it, or set DIR to another "
        "folder to start a new run.\n"
    )
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_checkpoints_without_a_state_are_not_overwritten_either(words, whole, call, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "state.pth").unlink()
    for resume in ("auto", "off"):
        refused = call(*words("run", TRAIN__resume=resume))
        assert refused.code == 2
        assert (
            "already holds checkpoints, up to epoch 2, but no state.pth. Set TRAIN.start_epoch 2"
            in refused.err
        )


def test_a_folder_with_only_the_config_of_another_run_is_refused_unless_resume_is_auto(words, call, tmp_path):
    (tmp_path / "run").mkdir()
    config = load_config(None, ["TRAIN.seed", "1"]).dump()
    (tmp_path / "run" / "config.yaml").write_text(config)
    refused = call(*words("run", TRAIN__resume="off"))
    assert refused.code == 2
    assert "config.yaml is from another run, which has no checkpoint yet. Set TRAIN.resume" in refused.err
    assert "or set DIR to another folder" in refused.err
    assert call(*words("run", TRAIN__num_epoch=1, VAL__every=0)).code == 0


def test_a_finished_run_says_so_and_trains_on_if_it_is_given_epochs(words, whole, call, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    done = call(*words("run"))
    assert done.code == 0
    assert f"{folder} is finished: all 2 epochs are done. Set TRAIN.num_epoch higher to train on." in done.out
    assert differences(whole, folder) == []
    more = call(*words("run", TRAIN__num_epoch=3, TRAIN__lr_encoder=0.01))
    assert more.code == 0
    assert "Changed since the state was saved: TRAIN.lr_encoder was 0.02, is 0.01; " in more.out
    assert (folder / "encoder_epoch_3.pth").is_file()
    fewer = call(*words("run", TRAIN__num_epoch=1))
    assert fewer.code == 2
    assert "is at epoch 3, but the run ends at TRAIN.num_epoch 1" in fewer.err


def test_a_state_of_another_folder_begins_a_run_of_its_own(words, whole, call, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    for name, resume in (("a", whole), ("b", whole / "state.pth")):
        done = call(*words(name, TRAIN__resume=resume, TRAIN__num_epoch=3))
        assert done.code == 0, done.err
        assert (tmp_path / name / "encoder_epoch_3.pth").is_file()
        assert not (tmp_path / name / "encoder_epoch_2.pth").exists()
    assert differences(tmp_path / "a", tmp_path / "b") == []
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_file_that_is_not_a_state_or_is_from_another_run_is_named(words, whole, call, own_tiny, tmp_path):
    missing = call(*words("run", TRAIN__resume=tmp_path / "nothing"))
    assert missing.code == 2
    assert f"TRAIN.resume is {tmp_path / 'nothing'}, but {tmp_path / 'nothing'} does not exist" in missing.err
    other = call(*words("run", TRAIN__resume=whole / "encoder_epoch_1.pth"))
    assert other.code == 2
    assert f"{whole / 'encoder_epoch_1.pth'} does not hold the state of a training." in other.err
    changed = call(*words("run", TRAIN__resume=whole, TRAIN__seed=1, MODEL__arch_decoder="ppm"))
    assert changed.code == 2
    assert "MODEL.arch_decoder was c1, is ppm; TRAIN.seed was 304, is 1. Set back what" in changed.err
    lines = (own_tiny.folder / "training.odgt").read_text().splitlines()
    (own_tiny.folder / "training.odgt").write_text("\n".join(lines[1:]))
    shorter = call(*words("run", TRAIN__resume=whole, DATASET__list_train=own_tiny.folder / "training.odgt"))
    assert shorter.code == 2
    assert "training.odgt differs from the list it was trained with" in shorter.err
    assert not (tmp_path / "run").exists()


def test_a_damaged_state_is_named_with_a_way_around_it(words, whole, call, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    file = folder / "state.pth"
    file.write_bytes(file.read_bytes()[:100_000])
    refused = call(*words("run"))
    assert refused.code == 2
    assert f"{file} is truncated" in refused.err
    assert "TRAIN.start_epoch 2 continues from the weights of the newest epoch." in refused.err
    elsewhere = call(*words("other", TRAIN__resume=folder))
    assert elsewhere.code == 2
    assert "TRAIN.start_epoch" not in elsewhere.err  # it would look for the epoch in the other folder
    assert f"MODEL.weights_decoder {folder / 'decoder_epoch_2.pth'}." in elsewhere.err


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"TRAIN__start_epoch": 1},
            "TRAIN.resume is 'auto' and TRAIN.start_epoch is 1: both say where to resume",
        ),
        ({"TRAIN__patience": 2, "VAL__every": 0}, "TRAIN.patience is 2, but VAL.every is 0"),
        ({"TRAIN__resume": ""}, "TRAIN.resume is '', but must be off, auto"),
        ({"TRAIN__save_iters": -1}, "TRAIN.save_iters is -1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words, call, keys, says):
    refused = call(*words("run", **keys))
    assert refused.code == 2
    assert says in refused.err


def test_off_in_a_yaml_file_is_off(tiny, tmp_path):
    (tmp_path / "a.yaml").write_text("TRAIN: {resume: off}")
    assert load_config(str(tmp_path / "a.yaml")).TRAIN.resume == "off"


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "history.csv"])
def test_a_folder_with_the_name_of_a_file_of_the_run_is_found_before_the_first_iteration(
    words, call, tmp_path, name
):
    (tmp_path / "run" / name).mkdir(parents=True)
    refused = call(*words("run"))
    assert refused.code == 2
    assert f"{name} is a folder, but a run writes a file of this name. Rename it, or set DIR" in refused.err
    assert "Epoch" not in refused.out
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]
