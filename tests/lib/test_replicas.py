"""Replicas in threads: what they share with the master, and that a failure leaves none of them waiting."""

import threading
import time

import pytest
import torch
from one_device import on_replicas
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm1d, SynchronizedBatchNorm2d

X = torch.randn(2, 3, 4, 4)


class Fails(nn.Module):
    """Raises for an input that starts with a 7, after a moment in which the others reach their next layer."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        if x.flatten()[0] == 7:
            time.sleep(0.2)
            raise self.error
        return x


class Branches(nn.Module):
    """Calls the layers that the first value of the input names, in that order."""

    def __init__(self, orders):
        super().__init__()
        self.orders = orders
        self.layers = nn.ModuleDict({name: SynchronizedBatchNorm2d(3) for name in "ab"})

    def forward(self, x):
        for name in self.orders[int(x.flatten()[0])]:
            x = self.layers[name](x)
        return x


def starting_with(value):
    x = X.clone()
    x[0, 0, 0, 0] = value
    return x


def two_layers(middle):
    return nn.Sequential(SynchronizedBatchNorm2d(3), nn.Identity(), SynchronizedBatchNorm2d(3), middle)


@pytest.fixture(autouse=True)
def _ends_at_once_and_leaves_no_thread():
    threads, start = threading.active_count(), time.monotonic()
    yield
    assert time.monotonic() - start < 5
    assert threading.active_count() == threads


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_error_in_the_forward_releases_the_others_and_is_the_one_raised(failing, error):
    net = nn.Sequential(Fails(error), SynchronizedBatchNorm2d(3))
    shards = [starting_with(7 if rank == failing else 0) for rank in range(3)]
    with pytest.raises(type(error)) as caught:
        on_replicas(net, shards)
    assert caught.value is error
    assert [y.shape for y in on_replicas(net, [X, X, X])] == [X.shape] * 3  # the next step works


def test_an_error_says_which_replica_it_is_from():
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine"):
        on_replicas(nn.Sequential(Fails(error), SynchronizedBatchNorm2d(3)), [X, starting_with(7)])
    assert getattr(error, "__notes__", ["Raised in replica 1 of 2, on cpu."]) == [
        "Raised in replica 1 of 2, on cpu."
    ]


def test_an_error_inside_the_layer_releases_the_others():
    with pytest.raises(RuntimeError, match="complex"):
        on_replicas(SynchronizedBatchNorm1d(3), [torch.ones(2, 3), torch.ones(2, 3, dtype=torch.complex64)])


def test_an_error_in_the_backward_of_one_replica_ends_the_backward():
    layer = SynchronizedBatchNorm2d(3)
    outputs = on_replicas(nn.Sequential(layer, nn.ReLU(inplace=True)), [X, X, X])

    def fail(grad):
        raise ValueError("backward of replica 1")

    outputs[1].register_hook(fail)
    with pytest.raises(ValueError, match="backward of replica 1"):
        torch.stack([y.sum() for y in outputs]).sum().backward()


def test_a_replica_that_misses_a_layer_is_named():
    with pytest.raises(
        RuntimeError,
        match=r"Replica 0 is at layer 'layers.b', but the forward pass of replica 1 has ended.*the same",
    ):
        on_replicas(Branches({0: "ab", 1: "a"}), [starting_with(0), starting_with(1)])


def test_replicas_at_two_layers_at_once_are_named():
    with pytest.raises(
        RuntimeError, match=r"is at layer 'layers.\w', but replica \d is at layer 'layers.\w'"
    ):
        on_replicas(Branches({0: "ab", 1: "ba"}), [starting_with(0), starting_with(1)])


def test_activation_checkpointing_is_refused_not_computed_with_the_wrong_statistics():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = SynchronizedBatchNorm2d(3)

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=False)

    outputs = on_replicas(Checkpointed(), [X.clone().requires_grad_(), X.clone().requires_grad_()])
    with pytest.raises(RuntimeError, match="one process per device"):
        sum(y.square().sum() for y in outputs).backward()


def test_a_layer_called_twice_meets_twice():
    layer = SynchronizedBatchNorm2d(3)
    outputs = on_replicas(nn.Sequential(layer, nn.ReLU(), layer), [X, 2 * X, 3 * X])
    assert layer.num_batches_tracked == 2
    assert torch.cat(outputs).mean().abs() < 1e-6


def test_gradients_add_up_in_the_masters_parameters_and_buffers_change_once():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), SynchronizedBatchNorm2d(3))
    torch.stack([y.square().sum() for y in on_replicas(net, [X, X, X])]).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert net[1].num_batches_tracked == net[2].num_batches_tracked == 1
    assert net[2].exchange is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_holds_in_every_thread(mode):
    with mode():
        outputs = on_replicas(two_layers(nn.ReLU(inplace=True)), [X, X, X])
    assert not any(y.requires_grad for y in outputs)
    assert {y.is_inference() for y in outputs} == {mode is torch.inference_mode}


def test_many_layers_and_replicas_meet_in_any_order():
    net = nn.Sequential(*[SynchronizedBatchNorm2d(3) for _ in range(40)])
    outputs = on_replicas(net, [torch.randn(1, 3, 2, n) for n in range(1, 8)])
    assert torch.cat([y.flatten(2) for y in outputs], 2).mean().abs() < 1e-5
