"""Training and evaluation on several devices see the data and give the numbers of one run."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from mit_semseg.distributed import Place
from mit_semseg.engine.training.normalize import Normalizer
from mit_semseg.engine.training.run import parallel
from mit_semseg.engine.training.step import forward, step
from mit_semseg.launch import run
from mit_semseg.lib.nn import SynchronizedBatchNorm2d, UserScatteredDataParallel
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


@pytest.mark.skipif(sys.platform != "linux", reason="gives each agent a core of its own")
def test_two_machines_end_with_the_same_weights(tiny, tmp_path, by_processes):
    """Two agents of torchrun here, as on two machines: they know each other by their address alone."""
    words = ["--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path, *tiny.overrides(**RUN)]
    cores = sorted(os.sched_getaffinity(0))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    agents = []
    for node in range(2):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(node)]
        command += ["--nproc-per-node", "1", "--master-addr", "localhost", "--master-port", str(port)]
        command += [str(ROOT / "train.py"), *map(str, words)]
        # With as many threads as the others have, so that sums are rounded alike.
        one_core = partial(os.sched_setaffinity, 0, {cores[node % len(cores)]})
        agents.append(subprocess.Popen(command, preexec_fn=one_core))
    assert [agent.wait(timeout=120) for agent in agents] == [0, 0]
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


class Unused(torch.nn.Module):
    """An encoder with a normalized map, and a layer that no forward calls."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1)
        self.norm = SynchronizedBatchNorm2d(2)
        self.idle = torch.nn.Conv2d(5, 5, 3)

    def forward(self, x, return_feature_maps=False):
        return [self.norm(self.conv(x))]


def shards(number):
    """What two devices get, of two sizes; in step 1 the second has no valid pixel, in step 2 none has."""
    generator = torch.Generator().manual_seed(number)
    made = [
        {
            "img_data": torch.randn(2, 3, size, 4, generator=generator).double(),
            "seg_label": torch.randint(-1, 2, (2, size, 4), generator=generator),
        }
        for size in (5, 3)
    ]
    for shard in made[2 - number :]:
        shard["seg_label"].fill_(-1)
    return made


def three_steps(place, devices=1):
    """The weights after three steps on one shard a process, or on both in one process."""
    torch.manual_seed(0)
    module = SegmentationModule(Unused(), LogProbabilities(), pixel_loss_sum()).double()
    net = parallel(module, place, [place.device] * devices)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for number in range(3):
        step(net, optimizer, [shards(number)[place.rank : place.rank + devices]], place, where="")
    return module.state_dict()


def test_unused_weights_and_a_device_without_a_valid_pixel_break_nothing():
    cpu = torch.device("cpu")
    by_processes = run(three_steps, [cpu, cpu], timeout_s=60)
    by_replicas = three_steps(Place(0, 1, cpu), devices=2)
    torch.testing.assert_close(by_processes, by_replicas, rtol=1e-12, atol=1e-12)
    assert all(value.isfinite().all() for value in by_processes.values())


class Scores(torch.nn.Module):
    """An encoder whose only map is the image itself."""

    def forward(self, x, return_feature_maps=False):
        return [x]


class LogProbabilities(torch.nn.Module):
    def forward(self, features):
        return features[0].log_softmax(1)


def loss_of(net, batch, place):
    normalizer = Normalizer(net.module.crit, [shard["seg_label"] for shard in batch], place)
    loss, part = forward(net, batch, normalizer)
    return loss, normalizer.shown(part)


def test_the_loss_is_the_sum_over_valid_pixels_of_all_shards_over_their_number():
    module = SegmentationModule(Scores(), LogProbabilities(), pixel_loss_sum())
    first = {"img_data": torch.randn(1, 2, 3, 3), "seg_label": torch.ones(1, 3, 3, dtype=torch.int64)}
    second = {"img_data": torch.randn(1, 2, 3, 3), "seg_label": torch.full((1, 3, 3), -1)}
    second["seg_label"][0, 0, 0] = 0  # one valid pixel beside nine
    net, place = UserScatteredDataParallel(module, ["cpu", "cpu"]), Place(0, 1, torch.device("cpu"))
    loss, shown = loss_of(net, [first, second], place)
    everything = torch.cat(
        [-first["img_data"].log_softmax(1)[:, 1].ravel(), -second["img_data"].log_softmax(1)[:, 0, 0, 0]]
    )
    torch.testing.assert_close(loss, everything.mean())
    assert shown.loss == pytest.approx(everything.mean().item())
    second["seg_label"].fill_(-1)
    first["seg_label"].fill_(-1)
    loss, shown = loss_of(net, [first, second], place)
    assert (loss.item(), shown.loss, shown.accuracy) == (0, 0, 0)
