"""Synchronized BatchNorm over processes: ranks equal one device that has all their data."""

from contextlib import contextmanager
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from forked import FORKS
from one_device import assert_same, normalize, step
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.lib.nn.mailbox import has_shared_memory
from mit_semseg.lib.nn.sync import ProcessExchange, process_exchange

SHAPES = [(2, 3, 5, 7), (0, 3, 4, 4), (3, 3, 2, 6)]


def make_layer():
    torch.manual_seed(0)
    layer = SynchronizedBatchNorm2d(3).double()
    nn.init.uniform_(layer.weight)
    return layer


def make_net():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), SynchronizedBatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1)
    ).double()


def data(rank, seed):
    generator = torch.Generator().manual_seed(10 * seed + rank)
    return torch.randn(SHAPES[rank], generator=generator, dtype=torch.float64) + rank


def rank_main(rank, worlds, folder):
    """What one rank finds in a group of three, then of two; the tests look at the files."""
    torch.set_num_threads(1)
    for world in worlds:
        if rank < world:
            store = dist.FileStore(str(folder / f"store{world}"), world)
            dist.init_process_group(
                "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=77)
            )
            torch.save(train(rank, world), folder / f"{rank}of{world}.pt")
            dist.destroy_process_group()


def one_step(rank, exchange=None):
    """What a layer makes of a rank's data, and the collectives that it calls for it."""
    layer = make_layer()
    layer.exchange = exchange
    with counted_collectives() as collectives:
        found = step(lambda layer, shards: [layer(shards[0])], layer, [data(rank, 0)], [data(rank, 1)])
    return {**found, "collectives": collectives}


def train(rank, world):
    exchange = process_exchange()  # made at the first step otherwise
    found = {"as it is": one_step(rank), "over sockets": one_step(rank, ProcessExchange(None))}
    if exchange._mailbox is not None:
        found["time-out"] = exchange._mailbox._timeout_s
    x = data(rank, 0).requires_grad_(rank == 0)
    make_layer()(x).backward(data(rank, 1))
    found["input gradient of rank 0"] = x.grad

    model = DistributedDataParallel(make_net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for iteration in range(3):
        optimizer.zero_grad()
        # DDP averages gradients over ranks; times the world it is the sum.
        (model(data(rank, iteration)).tanh().sum() * world / 100).backward()
        optimizer.step()
    found["state"] = model.module.state_dict()
    with counted_collectives() as collectives:
        model.module.eval()(data(rank, 0))
    found["collectives in evaluation"] = collectives
    return found


@contextmanager
def counted_collectives():
    """The names of the collectives called inside the block, in order."""
    calls = []

    def counting(name, function):
        def counted(*args, **kwargs):
            calls.append(name)
            return function(*args, **kwargs)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_gather", "all_gather_into_tensor", "all_reduce", "broadcast", "barrier"):
            patch.setattr(dist, name, counting(name, getattr(dist, name)))
        yield calls


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.start_processes(rank_main, ((3, 2), folder), nprocs=3, start_method=FORKS)
    return folder


@pytest.fixture(params=[2, 3])
def found(request, folder):
    return [torch.load(folder / f"{rank}of{request.param}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("way", ["as it is", "over sockets"])
def test_ranks_equal_one_device_with_all_the_data(found, way):
    found = [rank[way] for rank in found]
    world = len(found)
    wanted = step(
        normalize, make_layer(), [data(r, 0) for r in range(world)], [data(r, 1) for r in range(world)]
    )
    joined = {
        "outputs": [rank["outputs"][0] for rank in found],
        "input gradients": [rank["input gradients"][0] for rank in found],
        # Each rank has the gradient of its own shard; DistributedDataParallel adds them up.
        "parameter gradients": [sum(g) for g in zip(*(r["parameter gradients"] for r in found), strict=True)],
    }
    assert_same(joined, {key: wanted[key] for key in joined}, tolerance=1e-9)
    for rank in found:
        assert_same(rank, {"running statistics": wanted["running statistics"]}, tolerance=1e-9)


def test_a_rank_whose_input_needs_no_gradient_still_gives_the_others_their_sums(found):
    assert [rank["input gradient of rank 0"] is None for rank in found] == [False] + [True] * (len(found) - 1)
    torch.testing.assert_close(
        found[0]["input gradient of rank 0"], found[0]["as it is"]["input gradients"][0], rtol=0, atol=1e-12
    )


def test_a_layer_costs_one_collective_forward_and_one_backward(found):
    for rank in found:
        assert rank["over sockets"]["collectives"] == ["all_gather_into_tensor"] * 2
        assert rank["collectives in evaluation"] == []


@pytest.mark.skipif(not has_shared_memory(), reason="needs Linux on x86-64")
def test_ranks_of_one_machine_use_their_shared_memory(found):
    for rank in found:
        assert rank["as it is"]["collectives"] == []
        assert rank["time-out"] == 77  # the group's, not that of its store


def test_ddp_trains_to_the_weights_of_one_device(found):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for iteration in range(3):
        optimizer.zero_grad()
        x = [net[0](data(rank, iteration)) for rank in range(len(found))]
        (sum(net[3](y.relu()).tanh().sum() for y in normalize(net[1], x)) / 100).backward()
        optimizer.step()
    for rank in found:
        torch.testing.assert_close(rank["state"], net.state_dict(), rtol=1e-9, atol=1e-9)
