"""Recomputed activations change nothing but the memory that they take."""

import copy

import pytest
import torch
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.models.builder import ENCODERS
from mit_semseg.models.stage import Stage, recompute_activations


def block():
    return nn.Sequential(
        nn.Conv2d(2, 2, 3, padding=1), SynchronizedBatchNorm2d(2), nn.Dropout2d(0.5), nn.ReLU(inplace=True)
    )


def trained(net, steps=3):
    """The weights and statistics after some steps, the gradients of the last, with dropout from one seed."""
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        output = net(torch.randn(2, next(net.parameters()).shape[1], 64, 64))
        loss = sum(value.square().mean() for value in (output if isinstance(output, list) else [output]))
        loss.backward()
        optimizer.step()
    return net.state_dict(), [p.grad for p in net.parameters()]


def test_weights_statistics_and_gradients_end_bit_for_bit_as_without_it():
    torch.manual_seed(0)
    plain = Stage(block(), block(), block())
    frugal = copy.deepcopy(plain)
    recompute_activations(frugal)
    torch.testing.assert_close(trained(frugal), trained(plain), rtol=0, atol=0)
    assert frugal[0][1].num_batches_tracked == 3


def test_only_the_inputs_of_the_blocks_are_kept():
    stage = Stage(block(), block(), block())
    kept = []

    def count():
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            stage(torch.randn(2, 2, 32, 32, requires_grad=True))
        kept.append(sum(sizes))

    count()
    recompute_activations(stage)
    count()
    assert kept[1] == 3 * 2 * 2 * 32 * 32 < kept[0] / 3


def test_a_block_that_fails_while_it_is_recomputed_leaves_the_statistics_in_place():
    stage = Stage(block())
    recompute_activations(stage)
    buffer = stage[0][1].running_mean
    output = stage(torch.randn(2, 2, 8, 8, requires_grad=True))
    stage[0][0].forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        output.sum().backward()
    assert stage[0][1].running_mean is buffer


@pytest.mark.parametrize("name", ["mobilenetv2dilated", "resnet18dilated"])
def test_an_encoder_trains_as_without_it(name):
    torch.manual_seed(0)
    plain = ENCODERS[name]()
    frugal = copy.deepcopy(plain)
    recompute_activations(frugal)
    (state, gradients), (other_state, other_gradients) = trained(frugal, 1), trained(plain, 1)
    torch.testing.assert_close(state, other_state, rtol=0, atol=0)
    torch.testing.assert_close(gradients, other_gradients, rtol=0, atol=0)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_has_stages(name):
    with torch.device("meta"):
        encoder = ENCODERS[name]()
    recompute_activations(encoder)
    assert sum(module.recompute for module in encoder.modules() if isinstance(module, Stage)) >= 1


def test_an_encoder_without_stages_is_refused():
    with pytest.raises(
        ValueError, match=r"^the encoder has no stages whose activations could be recomputed$"
    ):
        recompute_activations(nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_in_evaluation_nothing_is_recomputed():
    calls = []
    stage = Stage(block())
    stage[0][0].register_forward_hook(lambda *_: calls.append(1))
    recompute_activations(stage)
    stage.eval()(torch.randn(1, 2, 4, 4, requires_grad=True)).sum().backward()
    assert calls == [1]
