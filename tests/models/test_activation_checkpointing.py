"""Activation checkpointing changes the memory that a training takes, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.models.activation_checkpointing import (
    CheckpointedSequential,
    checkpoint_activations,
)
from mit_semseg.models.builder import ENCODERS


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
    plain = CheckpointedSequential(block(), block(), block())
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    torch.testing.assert_close(trained(checkpointed), trained(plain), rtol=0, atol=0)
    assert checkpointed[0][1].num_batches_tracked == 3


def test_only_the_inputs_of_the_blocks_are_kept():
    stage = CheckpointedSequential(block(), block(), block())
    kept = []

    def count():
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            stage(torch.randn(2, 2, 32, 32, requires_grad=True))
        kept.append(sum(sizes))

    count()
    checkpoint_activations(stage)
    count()
    assert kept[1] == 3 * 2 * 2 * 32 * 32 < kept[0] / 3


def test_a_block_that_fails_while_it_is_recomputed_leaves_the_statistics_in_place():
    stage = CheckpointedSequential(block())
    checkpoint_activations(stage)
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
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    (state, gradients), (other_state, other_gradients) = trained(checkpointed, 1), trained(plain, 1)
    torch.testing.assert_close(state, other_state, rtol=0, atol=0)
    torch.testing.assert_close(gradients, other_gradients, rtol=0, atol=0)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_can_be_checkpointed(name):
    with torch.device("meta"):
        encoder = ENCODERS[name]()
    checkpoint_activations(encoder)
    assert (
        sum(
            module.checkpointing for module in encoder.modules() if isinstance(module, CheckpointedSequential)
        )
        >= 1
    )


def test_an_encoder_without_blocks_to_checkpoint_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^Sequential has no CheckpointedSequential, so its activations cannot be recomputed$",
    ):
        checkpoint_activations(nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_in_evaluation_nothing_is_recomputed():
    calls = []
    stage = CheckpointedSequential(block())
    stage[0][0].register_forward_hook(lambda *_: calls.append(1))
    checkpoint_activations(stage)
    stage.eval()(torch.randn(1, 2, 4, 4, requires_grad=True)).sum().backward()
    assert calls == [1]
