"""Two processes compute together what one computes alone. One pair of processes serves all tests here."""

import pytest
import torch
from forked import in_processes
from test_fine_tuning import PARTS, changed, weights
from test_update import ALONE, assert_same, updated
from two_processes import train_each

from mit_semseg.config import load_config
from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.losses import pixel_loss_sum
from mit_semseg.models import SegmentationModule
from mit_semseg.runtime.distributed import gather_from_processes
from mit_semseg.training.options import train_options
from mit_semseg.training.parallel import parallel
from mit_semseg.training.setup import class_weights, train_dataset
from mit_semseg.training.step import step


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
    """Sub-batches of two sizes. The second one has no valid pixel in step 1, neither has one in step 2."""
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


def three_steps(process, devices=1):
    """The weights after three steps on one shard per process, or on both in one process."""
    torch.manual_seed(0)
    module = SegmentationModule(Unused(), LogProbabilities(), pixel_loss_sum()).double()
    net = parallel(module, process, [process.device] * devices)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for number in range(3):
        step(net, optimizer, [shards(number)[process.rank : process.rank + devices]], process, where="")
    return module.state_dict()


class LogProbabilities(torch.nn.Module):
    def forward(self, features):
        return features[0].log_softmax(1)


def weights_of_classes(process, path):
    options = train_options(load_config(path, ["TRAIN.class_weights", "median_frequency"]))
    return class_weights(options, train_dataset(options), process)


def compute(process, path, commands):
    """The results of each process, by rank; the trainings leave theirs in their folders."""
    train_each(process, commands)
    return gather_from_processes(
        {
            "update": updated(process, devices=1, accumulate=2, clip=0.01),
            "three steps": three_steps(process),
            "class weights": weights_of_classes(process, path),
        }
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("two processes")


@pytest.fixture(scope="module")
def found(tiny, trained, runs):
    """The results of `compute`; the folder ``runs`` holds the trainings of one epoch."""
    frozen = {f"MODEL__weights_{part}": trained / f"{part}_epoch_2.pth" for part in PARTS}
    keys_of = {
        "frozen": {**frozen, "TRAIN__freeze": "encoder", "TRAIN__ema_decay": 0.9},
        "recomputed": {"TRAIN__checkpoint_activations": True},
        "kept": {},
    }
    commands = [
        [
            *("train", "--gpus", "cpu", "--cfg", str(tiny.config)),
            *tiny.overrides(DIR=runs / name, TRAIN__num_epoch=1, TRAIN__tensorboard=False, **keys),
        ]
        for name, keys in keys_of.items()
    ]
    return in_processes(2, compute, str(tiny.config), commands)


def test_an_update_is_that_of_four_replicas(found):
    for rank in found:
        assert_same(rank["update"], updated(ALONE, devices=4, accumulate=1, clip=0.01))


def test_unused_weights_and_a_device_without_a_valid_pixel_break_nothing(found):
    by_replicas = three_steps(ALONE, devices=2)
    for rank in found:
        torch.testing.assert_close(rank["three steps"], by_replicas, rtol=1e-12, atol=1e-12)
        assert all(value.isfinite().all() for value in rank["three steps"].values())


def test_every_process_has_the_class_weights(tiny, found):
    expected = weights_of_classes(ALONE, str(tiny.config))
    assert [torch.equal(rank["class weights"], expected) for rank in found] == [True, True]


def test_a_frozen_encoder_stays_bit_for_bit_and_the_decoder_moves(found, runs, trained):
    assert not changed(weights(trained, "encoder", 2), weights(runs / "frozen", "encoder"))
    start = weights(trained, "decoder", 2)
    assert changed(start, weights(runs / "frozen", "decoder")) == start.keys()


def test_recomputed_activations_end_with_the_weights_and_statistics_of_kept_ones(found, runs):
    recomputed, kept = ([weights(runs / name, part) for part in PARTS] for name in ("recomputed", "kept"))
    torch.testing.assert_close(recomputed, kept, rtol=0, atol=0)
