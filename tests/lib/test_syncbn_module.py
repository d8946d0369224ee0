"""Synchronized layers as modules: copied, stored, exported, converted, and alone the same as PyTorch's."""

import copy
import io
import pickle

import pytest
import torch
from one_device import on_replicas
from torch import nn

from mit_semseg.lib.nn import (
    SynchronizedBatchNorm1d,
    SynchronizedBatchNorm2d,
    SynchronizedBatchNorm3d,
    convert_model,
)

PAIRS = [
    (SynchronizedBatchNorm1d, nn.BatchNorm1d, (4, 3, 5)),
    (SynchronizedBatchNorm2d, nn.BatchNorm2d, (4, 3, 5, 6)),
    (SynchronizedBatchNorm3d, nn.BatchNorm3d, (4, 3, 2, 5, 6)),
]


def trained(layer):
    with torch.no_grad():
        for _ in range(2):
            layer(torch.randn(4, layer.num_features, 5, 6) * 2 + 1)
    return layer


def saved_and_loaded(module):
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize(("synchronized", "plain", "shape"), PAIRS)
@pytest.mark.parametrize("training", [True, False])
def test_alone_it_is_pytorchs_layer_bit_for_bit(synchronized, plain, shape, training):
    ours, theirs = synchronized(3).train(training), plain(3).train(training)
    x = torch.randn(shape)
    assert torch.equal(ours(x), theirs(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
    assert ours.momentum == theirs.momentum == 0.1


def test_state_dicts_are_exchanged_with_pytorchs_layer_both_ways():
    ours, theirs = trained(SynchronizedBatchNorm2d(3)), nn.BatchNorm2d(3)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    SynchronizedBatchNorm2d(3).load_state_dict(theirs.state_dict(), strict=True)
    assert torch.equal(theirs.running_var, ours.running_var)
    assert isinstance(ours, nn.modules.batchnorm._BatchNorm)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded]
)
def test_it_can_be_copied_and_pickled_also_after_it_ran_on_replicas(duplicate):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), SynchronizedBatchNorm2d(3))
    on_replicas(net, [torch.randn(2, 3, 4, 4)] * 2)
    twin, x = duplicate(net), torch.randn(2, 3, 4, 4)
    assert torch.equal(twin.eval()(x), net.eval()(x))


def test_in_evaluation_it_is_exported_and_compiled_like_pytorchs_layer():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), trained(SynchronizedBatchNorm2d(4)), nn.ReLU()).eval()
    x = torch.randn(2, 3, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))
        torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))


def test_in_evaluation_replicas_normalize_by_the_running_statistics():
    layer = trained(SynchronizedBatchNorm2d(3)).eval()
    before = copy.deepcopy(layer.state_dict())
    shards = [torch.randn(2, 3, 4, 4), torch.randn(1, 3, 2, 5)]
    for x, y in zip(shards, on_replicas(layer, shards), strict=True):
        assert torch.equal(y, layer(x))
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_conversion_there_and_back_keeps_everything_but_the_type():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(trained(nn.BatchNorm2d(4, eps=1e-3, momentum=0.2))))
    net[1][0].weight.requires_grad_(False)
    net[1].eval()
    x = torch.randn(2, 3, 4, 4)
    wanted, parameters = net(x), list(net.parameters())

    synchronized = convert_model(net)
    layer = synchronized[1][0]
    assert type(layer) is SynchronizedBatchNorm2d
    assert (layer.eps, layer.momentum, layer.training, layer.weight.requires_grad) == (
        1e-3,
        0.2,
        False,
        False,
    )
    assert all(a is b for a, b in zip(synchronized.parameters(), parameters, strict=True))
    assert torch.equal(synchronized(x), wanted)

    plain = convert_model(synchronized, synchronized=False)
    assert type(plain[1][0]) is nn.BatchNorm2d
    assert torch.equal(plain(x), wanted)


@pytest.mark.parametrize(("synchronized", "plain", "shape"), PAIRS)
def test_conversion_knows_all_three_layers_also_as_the_module_itself(synchronized, plain, shape):
    assert type(convert_model(plain(3))) is synchronized
    assert type(convert_model(synchronized(3), synchronized=False)) is plain


def test_conversion_keeps_a_shared_layer_shared_and_leaves_subclasses_alone():
    class Special(nn.BatchNorm2d):
        pass

    shared = nn.BatchNorm2d(3)
    net = convert_model(nn.Sequential(shared, nn.ReLU(), shared, Special(3)))
    assert net[0] is net[2]
    assert type(net[3]) is Special
