"""Training and evaluation on several devices see the data and give the numbers of one run."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from commands import ROOT
from forked import Command, run_torchrun
from test_validation import evaluated, validations

from mit_semseg.lib.nn import UserScatteredDataParallel
from mit_semseg.losses import pixel_loss_sum
from mit_semseg.models import SegmentationModule
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training.step import Normalizer, forward

PARTS = ("encoder_epoch_1.pth", "decoder_epoch_1.pth")
# A small rate: large ones multiply the rounding errors by which two orders of summation differ.
RUN = {
    "TRAIN__epoch_iters": 5,
    "TRAIN__num_epoch": 1,
    "TRAIN__lr_encoder": 1e-4,
    "TRAIN__lr_decoder": 1e-4,
    "TRAIN__tensorboard": False,
}


@pytest.fixture(scope="module")
def by_processes(tiny, tmp_path_factory):
    """The folder of a run of 5 iterations in two processes, validated at its end."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("ddp")
    words = ["--gpus", "cpu", "--procs", "2", "--cfg", str(tiny.config), "DIR", str(folder)]
    assert main(["train", *words, *tiny.overrides(**RUN, VAL__every=1)]) == 0
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


@pytest.mark.parametrize(("machines", "processes"), [(1, 2), (2, 1)])
def test_torchrun_ends_with_the_same_weights_on_one_machine_and_on_two(
    tiny, tmp_path, by_processes, machines, processes
):
    words = ["--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path, *tiny.overrides(**RUN)]
    outcomes = run_torchrun(processes, ROOT / "train.py", *words, machines=machines)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert outcomes[1].out == outcomes[1].err == ""
    assert largest_difference(by_processes, tmp_path) < 1e-5


def test_several_processes_validate_as_an_evaluation_scores(tiny, by_processes, call):
    ((epoch, *scores),) = validations(by_processes)
    assert epoch == 1
    assert evaluated(call, tiny, by_processes, "epoch_1.pth") == tuple(scores)
    assert (by_processes / "log.txt").read_text().count("validation on 3 images") == 1


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
    assert "TRAIN.parallel is dp, which uses one process, but torchrun starts several" in done.err


@pytest.mark.skipif(sys.platform != "linux", reason="finds a process's children in /proc")
def test_a_killed_process_ends_the_training_with_its_name(tiny, tmp_path):
    words = ["--gpus", "cpu", "--procs", "2", "--cfg", tiny.config, "DIR", tmp_path / "run"]
    endless = tiny.overrides(TRAIN__epoch_iters=10**6, TRAIN__tensorboard=False)
    with Command(ROOT / "train.py", *words, *endless, forking=True) as train:
        while "Epoch 1/" not in train.out.readline():  # until it has trained an iteration
            assert train.is_running()
        ranks = train.ranks()
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        outcome = train.finish()
    assert outcome.code == 1
    assert "Process 1 on cpu was killed by SIGKILL" in outcome.err
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


class Scores(torch.nn.Module):
    """An encoder whose only map is the image itself."""

    def forward(self, x, return_feature_maps=False):
        return [x]


class LogProbabilities(torch.nn.Module):
    def forward(self, features):
        return features[0].log_softmax(1)


def loss_of(net, batch, process):
    normalizer = Normalizer(net.module.crit, [shard["seg_label"] for shard in batch], process)
    loss, part = forward(net, batch, normalizer)
    return loss, normalizer.means(part).tolist()


def test_the_loss_is_the_sum_over_valid_pixels_of_all_shards_over_their_number():
    module = SegmentationModule(Scores(), LogProbabilities(), pixel_loss_sum())
    first = {"img_data": torch.randn(1, 2, 3, 3), "seg_label": torch.ones(1, 3, 3, dtype=torch.int64)}
    second = {"img_data": torch.randn(1, 2, 3, 3), "seg_label": torch.full((1, 3, 3), -1)}
    second["seg_label"][0, 0, 0] = 0  # one valid pixel beside nine
    net, process = UserScatteredDataParallel(module, ["cpu", "cpu"]), ProcessInfo(0, 1, torch.device("cpu"))
    loss, shown = loss_of(net, [first, second], process)
    everything = torch.cat(
        [-first["img_data"].log_softmax(1)[:, 1].ravel(), -second["img_data"].log_softmax(1)[:, 0, 0, 0]]
    )
    torch.testing.assert_close(loss, everything.mean())
    assert shown[0] == pytest.approx(everything.mean().item())
    second["seg_label"].fill_(-1)
    first["seg_label"].fill_(-1)
    loss, shown = loss_of(net, [first, second], process)
    assert [loss.item(), *shown] == [0, 0, 0, 0]
