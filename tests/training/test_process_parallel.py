"""Buffers of a network in several processes: equal bit for bit, without a broadcast at each step."""

from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from forked import in_processes
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm2d, convert_model, freeze_batch_norm, sync
from mit_semseg.lib.nn.batchnorm import buffers_can_drift
from mit_semseg.losses import pixel_loss_sum
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.models.builder import DECODERS, ENCODERS
from mit_semseg.models.layers import NORMS
from mit_semseg.optim.ema import WeightAverage
from mit_semseg.training.parallel import ProcessParallel
from mit_semseg.training.step import step

STEPS = 3
MODES = ("plain", "shared memory", "frozen", "group", "sockets")  # the last changes how the group meets


class Encoder(nn.Module):
    """One map, with a constant buffer, as in some encoders of timm."""

    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), norm
        self.register_buffer("scale", torch.ones(3, 1, 1), persistent=False)

    def forward(self, x, return_feature_maps=False):
        return [self.norm(self.conv(x * self.scale))]


class Decoder(nn.Module):
    def forward(self, features):
        return features[0].log_softmax(1)


def norm_of(mode):
    if mode == "group":
        return NORMS["group"](4)
    norm = nn.BatchNorm2d(4)
    return norm if mode == "plain" else convert_model(norm)


class Found(NamedTuple):
    """Buffers of each rank, and the broadcasts of buffers during the steps."""

    start: list
    end: list
    averaged: list
    broadcasts: list


def trained_in_each_mode(place):
    return {mode: trained(place, mode) for mode in MODES}


def trained(place, mode):
    module = SegmentationModule(Encoder(norm_of(mode)), Decoder(), pixel_loss_sum())
    if mode == "frozen":
        freeze_batch_norm(module)
    if mode == "sockets":
        sync._exchanges[dist.group.WORLD] = sync.ProcessExchange(None)
    for buffer in module.buffers():
        buffer += place.rank  # as if the ranks had started from different files
    net = ProcessParallel(module, place.device)
    start = rank_by_rank(module.buffers())
    average = WeightAverage(module, 0.9)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        broadcast = dist._broadcast_coalesced
        patch.setattr(dist, "_broadcast_coalesced", lambda *args: (calls.append("forward"), broadcast(*args)))
        for number in range(STEPS):
            generator = torch.Generator().manual_seed(10 * number + place.rank)
            shard = {
                "img_data": torch.randn(2, 3, 5 + place.rank, 7, generator=generator) + place.rank,
                "seg_label": torch.randint(-1, 4, (2, 5 + place.rank, 7), generator=generator),
            }
            step(net, optimizer, [[shard]], place, where="")
            average.update(module)
    return (
        start,
        rank_by_rank(module.buffers()),
        rank_by_rank(average.state_dict()["buffers"].values()),
        calls,
    )


def rank_by_rank(buffers):
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, [buffer.clone() for buffer in buffers])
    return found


@pytest.fixture(scope="module")
def found():
    return in_processes(2, trained_in_each_mode)


@pytest.mark.parametrize("mode", ["shared memory", "sockets", "frozen", "group"])
def test_buffers_start_and_stay_equal_to_the_bit_without_a_broadcast(found, mode):
    start, end, averaged, broadcasts = found[mode]
    for one, other in (start, end, averaged):
        assert len(one) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    moved = [not torch.equal(a, b) for a, b in zip(start[0], end[0], strict=True)]
    assert any(moved) == (mode in ("shared memory", "sockets"))
    assert broadcasts == []


def test_buffers_that_only_one_process_computes_are_rank_0s_before_each_step(found):
    start, end, _, broadcasts = found["plain"]
    assert all(torch.equal(a, b) for a, b in zip(*start, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(*end, strict=True))  # each rank's own images since
    assert len(broadcasts) == STEPS


@pytest.mark.parametrize("encoder", ENCODERS)
def test_our_encoders_need_no_broadcast(encoder):
    with torch.device("meta"):
        assert not buffers_can_drift(ENCODERS[encoder]())


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("norm", NORMS)
def test_our_decoders_need_no_broadcast(decoder, norm):
    with torch.device("meta"):
        assert not buffers_can_drift(ModelBuilder.build_decoder(decoder, norm=norm))


@pytest.mark.parametrize(
    "name", ["efficientnet_lite0", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"]
)
def test_encoders_of_timm_need_no_broadcast(name):
    pytest.importorskip("timm")
    with torch.device("meta"):
        encoder = ModelBuilder.build_encoder(f"timm/{name}", imagenet=False)
    assert any(True for _ in encoder.buffers())
    assert not buffers_can_drift(encoder)


def test_other_layers_with_statistics_need_one():
    layers = pytest.importorskip("timm.layers")
    assert buffers_can_drift(nn.Sequential(SynchronizedBatchNorm2d(4), nn.BatchNorm2d(4)))
    assert buffers_can_drift(layers.EvoNorm2dB0(4))
