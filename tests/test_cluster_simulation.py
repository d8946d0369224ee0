"""The formulas of benchmarks/cluster.py: collectives, and a step that exchanges while it computes."""

from types import SimpleNamespace

import pytest
from commands import ROOT


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from simulation import network, steps

    return SimpleNamespace(**vars(network), **{name: getattr(steps, name) for name in STEPS})


STEPS = ("BUCKET", "FIRST_BUCKET", "Layer", "layers_of", "step_time", "without_messages")


def one_second(size):
    return 1.0


def test_a_ring_of_local_processes_sends_two_times_n_minus_1_parts(simulation):
    ring = simulation.LocalRing(latency=1e-3, bandwidth=1e6, message=0.0, ranks=4)
    assert ring.all_reduce(4e6) == pytest.approx(6 * 1e-3 + 6 / 4 * 4)


def test_the_fit_finds_the_latency_and_the_bandwidth_of_a_ring(simulation):
    ring = simulation.LocalRing(latency=1e-4, bandwidth=2e9, message=0.0, ranks=2)
    measured = {size: ring.all_reduce(size) for size in (2**10, 2**18, 2**24)}
    assert simulation.fit_ring(measured, 2) == pytest.approx((1e-4, 2e9))


def test_a_short_message_takes_the_latency_that_nccl_adds_up(simulation):
    cluster = simulation.Cluster(simulation.MACHINES["h100"], 16)
    # 15 steps of an all-gather, one of them over the network; the others cost the overhead of the network.
    assert cluster.all_gather(0) == pytest.approx(6.6e-6 + 14 * 1e-6 + 2.7e-6)
    # Tree: 7 hops in the node and one level of nodes, up and down.
    assert cluster.all_reduce(0) == pytest.approx(6.8e-6 + 2 * (7 * 0.6e-6 + 5e-6))


def test_a_large_all_reduce_is_limited_by_the_links_of_the_node(simulation):
    cluster = simulation.Cluster(simulation.MACHINES["h100"], 16)
    size = 1e12
    assert cluster.all_reduce(size) == pytest.approx(2 * 15 / 16 * size / (0.8 * 400e9), rel=0.01)


@pytest.mark.parametrize("collective", ["all_gather", "all_reduce"])
def test_more_ranks_and_more_bytes_take_longer(simulation, collective):
    machine = simulation.MACHINES["a100"]
    by_ranks = [getattr(simulation.Cluster(machine, ranks), collective)(1e6) for ranks in (1, 8, 64, 1024)]
    assert by_ranks == sorted(by_ranks)
    assert by_ranks[0] == 0
    by_size = [getattr(simulation.Cluster(machine, 64), collective)(size) for size in (1e3, 1e6, 1e9)]
    assert by_size == sorted(by_size)


def test_gradients_that_are_ready_early_hide_in_the_backward_pass(simulation):
    layers = [
        simulation.Layer("first", 0, 90.0, 0),
        simulation.Layer("last", simulation.FIRST_BUCKET, 10.0, 0),
    ]
    time = simulation.step_time(layers, 30.0, 2, lambda size: 5.0 if size > 100 else 0.0, one_second)
    assert time.total == pytest.approx(30)  # 5 s of exchange during 18 s of arithmetic
    # In the other order, nothing is left to compute when the gradients are ready.
    time = simulation.step_time(layers[::-1], 30.0, 2, lambda size: 5.0 if size > 100 else 0.0, one_second)
    assert (time.exchange, time.total) == pytest.approx((5, 35))


def test_messages_of_batch_norm_stop_the_arithmetic_and_wait_for_a_bucket(simulation):
    layers = [
        simulation.Layer("norm", 0, 0.0, 64),
        simulation.Layer("convolution", simulation.FIRST_BUCKET, 1.0, 0),
    ]

    def reduce(size):
        return 7.0 if size > 100 else 0.0

    time = simulation.step_time(layers, 3.0, 2, reduce, one_second)
    assert time.sync == pytest.approx(1 + 7 + 1)
    apart = simulation.step_time(layers, 3.0, 2, reduce, one_second, one_link=False)
    assert (apart.sync, apart.exchange) == pytest.approx((2, 6))
    assert simulation.step_time(simulation.without_messages(layers), 3.0, 2, reduce, one_second).sync == 0


def test_one_rank_exchanges_nothing_and_waits_for_slow_data_only(simulation):
    layers = [simulation.Layer("norm", 100, 1.0, 64)]
    time = simulation.step_time(layers, 3.0, 1, one_second, one_second, data_s=5.0)
    assert (time.compute, time.sync, time.exchange, time.data) == (3, 0, 0, 2)


def test_accumulation_exchanges_gradients_once_and_messages_in_each_pass(simulation):
    layers = [simulation.Layer("norm", simulation.BUCKET, 1.0, 64)]
    time = simulation.step_time(layers, 3.0, 2, lambda size: 1.0 if size > 100 else 0.0, one_second, passes=4)
    assert (time.compute, time.sync, time.exchange) == pytest.approx((12, 8, 1))


def test_the_layers_of_a_model_have_its_gradients_and_batch_norms(simulation):
    layers = simulation.layers_of("resnet18dilated", "c1", (2, 64, 64), num_class=7)
    import torch

    from mit_semseg.models import ModelBuilder

    with torch.device("meta"):
        encoder = ModelBuilder.build_encoder("resnet18dilated", imagenet=False)
        decoder = ModelBuilder.build_decoder("c1", channels=encoder.channels, num_class=7)
    nets = (encoder, decoder)
    assert sum(layer.gradient for layer in layers) == 4 * sum(
        weight.numel() for net in nets for weight in net.parameters()
    )
    norms = sum(type(layer).__name__.startswith("Synchronized") for net in nets for layer in net.modules())
    assert sum(layer.channels > 0 for layer in layers) == norms > 0
    assert sum(layer.flops for layer in layers) > 0
