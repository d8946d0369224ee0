"""Training and evaluation on several devices see the data and give the numbers of one run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mit_semseg.distributed import Place
from mit_semseg.engine.train import _forward
from mit_semseg.lib.nn import UserScatteredDataParallel
from mit_semseg.losses import pixel_loss_sum
from mit_semseg.models import SegmentationModule

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = ("encoder_epoch_1.pth", "decoder_epoch_1.pth")
# A small rate: large ones multiply the rounding errors by which two orders of summation differ.
RUN = {"TRAIN__epoch_iters": 20, "TRAIN__num_epoch": 1, "TRAIN__lr_encoder": 1e-4, "TRAIN__lr_decoder": 1e-4}


@pytest.fixture(scope="module")
def by_processes(tiny, tmp_path_factory):
    """The folder of a run of 20 iterations in two processes."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("ddp")
    words = ["--gpus", "cpu", "--procs", "2", "--cfg", str(tiny.config), "DIR", str(folder)]
    assert main(["train", *words, *tiny.overrides(**RUN)]) == 0
    return folder


def largest_difference(folder, other):
    pairs = [(torch.load(folder / part), torch.load(other / part)) for part in PARTS]
    return max(
        ((a[name].double() - b[name].double()).abs().max() / (1 + b[name].double().abs().max())).item()
        for a, b in pairs
        for name in b
    )


def test_two_replicas_in_one_process_end_with_the_weights_of_two_processes(
    tiny, tmp_path, by_processes, call
):
    words = ["--gpus", "cpu", "--procs", "2", "--cfg", tiny.config, "DIR", tmp_path, "TRAIN.parallel", "dp"]
    done = call("train", *words, *tiny.overrides(**RUN))
    assert done.code == 0, done.err
    assert "on 2 x cpu" in done.out
    assert largest_difference(by_processes, tmp_path) < 1e-5


def test_torchrun_ends_with_the_same_weights(tiny, tmp_path, by_processes):
    words = ["--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path, *tiny.overrides(**RUN)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    subprocess.run([*command, str(ROOT / "train.py"), *map(str, words)], check=True, timeout=120)
    assert largest_difference(by_processes, tmp_path) < 1e-5


def test_scores_are_equal_to_the_last_digit_for_one_and_three_processes(tiny, trained, call):
    tables = []
    for processes in (1, 3):
        words = ["--gpus", "cpu", "--procs", processes, "--cfg", tiny.config, "DIR", trained]
        done = call("eval", *words)
        assert done.code == 0, done.err
        tables.append(done.out)
    assert "Mean IoU" in tables[0]
    assert tables[0] == tables[1]


def test_processes_are_for_the_cpu(tiny, call):
    done = call("train", "--procs", 2, "--gpus", 0, "--cfg", tiny.config)
    assert (done.code, done.err) == (
        2,
        "--procs is for the CPU: add --gpus cpu. On GPUs there is one process on each.\n",
    )


def test_dp_under_torchrun_is_refused(tiny, call, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = call("train", "--gpus", "cpu", "--cfg", tiny.config, "TRAIN.parallel", "dp")
    assert done.code == 2
    assert "TRAIN.parallel is dp, which is one process, but torchrun starts many" in done.err


@pytest.mark.skipif(sys.platform != "linux", reason="finds a process's children in /proc")
def test_a_killed_process_ends_the_training_with_its_name(tiny, tmp_path):
    words = ["--gpus", "cpu", "--procs", "2", "--cfg", tiny.config, "DIR", tmp_path / "run"]
    endless = tiny.overrides(TRAIN__epoch_iters=10**6)
    train = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *map(str, words), *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert train.stdout is not None
    while "Epoch 1/" not in train.stdout.readline():  # until it has trained an iteration
        assert train.poll() is None
    ranks = [int(pid) for pid in Path(f"/proc/{train.pid}/task/{train.pid}/children").read_text().split()]
    ranks = [pid for pid in ranks if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, err = train.communicate(timeout=60)
    assert train.returncode == 1
    assert "Process 1 on cpu was ended by SIGKILL" in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


class Scores(torch.nn.Module):
    """An encoder whose only map is the image itself."""

    def forward(self, x, return_feature_maps=False):
        return [x]


class LogProbabilities(torch.nn.Module):
    def forward(self, features):
        return features[0].log_softmax(1)


def test_the_loss_is_the_sum_over_valid_pixels_of_all_shards_over_their_number():
    module = SegmentationModule(Scores(), LogProbabilities(), pixel_loss_sum())
    first = {"img_data": torch.randn(1, 2, 3, 3), "seg_label": torch.ones(1, 3, 3, dtype=torch.int64)}
    second = {"img_data": torch.randn(1, 2, 3, 3), "seg_label": torch.full((1, 3, 3), -1)}
    second["seg_label"][0, 0, 0] = 0  # one valid pixel beside nine
    net, place = UserScatteredDataParallel(module, ["cpu", "cpu"]), Place(0, 1, torch.device("cpu"))
    loss, shown = _forward(net, [first, second], place)
    everything = torch.cat(
        [-first["img_data"].log_softmax(1)[:, 1].ravel(), -second["img_data"].log_softmax(1)[:, 0, 0, 0]]
    )
    torch.testing.assert_close(loss, everything.mean())
    assert shown.loss == pytest.approx(everything.mean().item())
    second["seg_label"].fill_(-1)
    first["seg_label"].fill_(-1)
    loss, shown = _forward(net, [first, second], place)
    assert (loss.item(), shown.loss, shown.accuracy) == (0, 0, 0)
