"""Machines leave and join a training under torchrun without a shared disk. The data order stays the same."""

import shutil
import sys

import pytest
import torch
from agents import Cluster, wait_until

from mit_semseg.config import load_config
from mit_semseg.training.options import train_options
from mit_semseg.training.setup import train_dataset
from mit_semseg.training.state import saved_position

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds an agent's processes in /proc")

EPOCH_ITERS = 7
KEYS = {
    "TRAIN__epoch_iters": EPOCH_ITERS,
    "TRAIN__num_epoch": 100_000,
    "TRAIN__save_iters": 3,
    "TRAIN__disp_iter": 1,
    "TRAIN__freeze": "bn",  # processes that share a core wait long for each other's statistics
    "TRAIN__tensorboard": False,
    "TRAIN__keep_checkpoints": 1,
    "TRAIN__resume": "auto",
    "TRAIN__scale_rate": "linear",
}


def position(folder):
    return saved_position(folder / "state.pth")[0]


def test_the_machine_of_rank_0_is_lost_with_its_disk_and_returns_with_an_empty_one(tiny, tmp_path):
    words = ["--gpus", "cpu", "--cfg", tiny.config, *tiny.overrides(**KEYS)]
    first, second = tmp_path / "first", tmp_path / "second"
    with Cluster(tmp_path / "cluster", words) as cluster:
        agents = [cluster.start(1, first), cluster.start(2, second)]
        pair = cluster.wait_for_group(2)
        wait_until(lambda: position(first) > 0 and position(second) > 0, cluster.output)
        agents[0].kill()
        shutil.rmtree(first)
        alone = cluster.wait_for_group(1, after=pair)
        agents[0] = cluster.start(1, first)
        cluster.wait_for_group(2, after=alone)
        wait_until(lambda: position(first) > 0, cluster.output)
        agents[1].terminate()
        agents[0].terminate()
        log = (second / "log.txt").read_text() + (first / "log.txt").read_text()
        output = cluster.output()
        images = cluster.images(EPOCH_ITERS)
    assert "The newest state is that of process 1 on " in log
    assert "1 x cpu" not in log
    assert "An iteration has 2 images now and had 4 at the start of the run. The learning rates are " in log
    assert "multiplied by 0.5 (TRAIN.scale_rate linear)" in log
    assert "Stopped by SIGTERM after iteration" in output
    dataset = train_dataset(train_options(load_config(str(tiny.config), words[4:])))
    assert images == [dataset.sub_batch(i)["info"] for i in range(len(images))]
    state = torch.load(first / "state.pth", weights_only=True)["course"]
    assert state["sub_batches"] == len(images)
