"""The fused kernels on a GPU, against one device with all the data in float64."""

import pytest
import torch
import torch.distributed as dist
from one_device import assert_same, normalize, step
from torch import nn

from mit_semseg.lib.nn import (
    SynchronizedBatchNorm1d,
    SynchronizedBatchNorm2d,
    SynchronizedBatchNorm3d,
    UserScatteredDataParallel,
)
from mit_semseg.lib.nn.replicas import replicate, run_replicas

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LAYERS = {1: SynchronizedBatchNorm1d, 2: SynchronizedBatchNorm2d, 3: SynchronizedBatchNorm3d}
CUDA = torch.device("cuda", 0)


def on_one_gpu(layer, shards):
    """Replicas that share one GPU, and the master's parameters, as replicas on the CPU do."""
    copies = replicate(layer, [torch.device("cpu")] * len(shards))
    return run_replicas(copies, [((x,), {}) for x in shards], [CUDA] * len(shards))


def cpu(found):
    return {what: [tensor.cpu() for tensor in tensors] for what, tensors in found.items()}


@pytest.mark.parametrize("memory_format", ["contiguous", "channels last", "not dense"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_fused_kernels_equal_one_device_with_all_the_data(dim, dtype, affine, memory_format):
    generator = torch.Generator().manual_seed(dim)
    layer = LAYERS[max(1, dim)](6, affine=affine)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 2, generator=generator)
    twin = type(layer)(6, affine=affine).double()
    twin.load_state_dict(layer.state_dict())
    shapes = [(n, 6, *[size + axis for axis in range(dim)]) for n, size in ((4, 9), (0, 3), (3, 12))]
    shards = [(torch.randn(shape, generator=generator) * 2 + 1).to(dtype) for shape in shapes]
    grads = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    wanted = step(normalize, twin, [x.double() for x in shards], [g.double() for g in grads])

    shards, grads = [x.to(CUDA) for x in shards], [g.to(CUDA) for g in grads]
    if memory_format == "channels last" and dim > 1:
        layout = torch.channels_last if dim == 2 else torch.channels_last_3d
        shards = [x.contiguous(memory_format=layout) for x in shards]
    if memory_format == "not dense":
        shards = [torch.stack([x, x], -1)[..., 0] for x in shards]
    layer = layer.to(CUDA, torch.float64 if dtype == torch.float64 else torch.float32)
    found = cpu(step(on_one_gpu, layer, shards, grads))
    if dtype in (torch.float16, torch.bfloat16):
        coarse = {what: found.pop(what) for what in ("outputs", "input gradients")}
        assert_same(coarse, {what: wanted[what] for what in coarse}, tolerance=4 * torch.finfo(dtype).eps)
    assert_same(found, {what: wanted[what] for what in found}, 1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_mean_of_10000_does_not_drown_a_deviation_of_1(memory_format):
    layer = SynchronizedBatchNorm2d(3, momentum=1.0).to(CUDA)
    x = (torch.randn(6, 3, 200, 300) + 1e4).contiguous(memory_format=memory_format)
    on_one_gpu(layer, list(x.to(CUDA).split([4, 2])))
    wanted = x.double().transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(layer.running_var.double().cpu(), wanted, rtol=1e-4, atol=0)


def test_under_autocast_the_layer_takes_half_precision_and_keeps_its_statistics_in_float32():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), SynchronizedBatchNorm2d(4)).to(CUDA)
    with torch.autocast("cuda", dtype=torch.float16):
        outputs = on_one_gpu(
            net, [torch.randn(2, 3, 5, 6, device=CUDA), torch.randn(1, 3, 4, 4, device=CUDA)]
        )
    assert {y.dtype for y in outputs} == {torch.float16}
    sum(y.float().square().sum() for y in outputs).backward()
    assert net[1].running_var.dtype == net[1].weight.grad.dtype == torch.float32


def test_no_step_waits_for_the_gpu():
    layer = SynchronizedBatchNorm2d(4).to(CUDA)
    shards = [torch.randn(2, 4, 8, 8, device=CUDA, requires_grad=True) for _ in range(2)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.backward(on_one_gpu(layer, shards), [torch.ones_like(x) for x in shards])
    finally:
        torch.cuda.set_sync_debug_mode("default")


def one_of_two(rank, folder):
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    layer, shards, grads = layer_and_shards()
    run = [shards[rank].to(CUDA)], [grads[rank].to(CUDA)]
    torch.save(cpu(step(lambda layer, x: [layer(x[0])], layer.to(CUDA), *run)), folder / f"{rank}.pt")
    dist.destroy_process_group()


def layer_and_shards():
    generator = torch.Generator().manual_seed(5)
    shards, grads = (
        [torch.randn(n, 3, size, 6, generator=generator).double() for n, size in ((2, 5), (3, 4))]
        for _ in range(2)
    )
    return SynchronizedBatchNorm2d(3).double(), shards, grads


def test_two_processes_on_one_gpu_equal_one_device_with_all_the_data(tmp_path):
    torch.multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    wanted = step(normalize, *layer_and_shards())
    for what in ("outputs", "input gradients"):
        joined = [rank[what][0] for rank in found]
        assert_same({what: joined}, {what: wanted[what]}, 1e-9)
    for rank in found:
        assert_same(rank, {"running statistics": wanted["running statistics"]}, 1e-9)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_processes_over_nccl_equal_one_device_with_all_the_data(tmp_path):
    torch.multiprocessing.spawn(one_over_nccl, (tmp_path,), nprocs=2)
    for rank in range(2):
        wanted = step(normalize, *layer_and_shards())
        found = torch.load(tmp_path / f"{rank}.pt")
        assert_same(found, {"outputs": wanted["outputs"][rank : rank + 1]}, 1e-9)
        assert_same(found, {"input gradients": wanted["input gradients"][rank : rank + 1]}, 1e-9)


def one_over_nccl(rank, folder):
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("nccl", store=store, rank=rank, world_size=2)
    layer, shards, grads = layer_and_shards()
    run = [shards[rank].to(device)], [grads[rank].to(device)]
    torch.save(cpu(step(lambda layer, x: [layer(x[0])], layer.to(device), *run)), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_gpus_train_on_images_of_two_sizes_also_without_gpu_0():
    last = torch.cuda.device_count() - 1
    for gpus in ([0, 1], [last, last - 1]):
        net = nn.Sequential(nn.Conv2d(3, 4, 1), SynchronizedBatchNorm2d(4, eps=1e-30)).double()
        module = UserScatteredDataParallel(FromDict(net).to(f"cuda:{gpus[0]}"), gpus)
        shards = [torch.randn(2, 3, 5, size).double() for size in (4, 9)]
        outputs = module([{"img_data": x, "name": "a"} for x in shards])
        assert outputs.shape == (2,)
        outputs.sum().backward()
        y = normalize(net[1].cpu(), [net[0].cpu()(x) for x in shards])
        torch.testing.assert_close(outputs.cpu(), torch.stack([part.tanh().sum() for part in y]))


class FromDict(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, feed_dict):
        return self.net(feed_dict["img_data"]).tanh().sum()
