"""What does synchronizing BatchNorm cost? The ratio of step times with synchronized and plain BatchNorm.

Two ResNet50dilated encoders train on the same shards of different image sizes, in the same run and in turns,
so that other load on the machine affects both: as replicas in one process, and as processes under
DistributedDataParallel.

    python benchmarks/syncbn.py --devices 2 --steps 20 > benchmarks/results/syncbn.md

On a machine with GPUs, ``--kind cuda`` uses one GPU per device and NCCL.
"""

import argparse
import copy
import datetime
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mit_semseg.lib.nn import UserScatteredDataParallel, convert_model
from mit_semseg.lib.nn.sync import ProcessExchange, process_exchange
from mit_semseg.models import ModelBuilder

SWAPS = 100
IMAGES = [(2, 3, 152, 200), (2, 3, 168, 176), (2, 3, 144, 208), (2, 3, 160, 192)]


class WithLoss(nn.Module):
    """A net that returns a scalar for a dict, as SegmentationModule does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, feed_dict: dict[str, Tensor]) -> Tensor:
        return self.net(feed_dict["img_data"])[0].square().mean()


def plain_and_synchronized() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder("resnet50dilated", imagenet=False)
    plain = WithLoss(convert_model(encoder, synchronized=False))
    return plain, convert_model(copy.deepcopy(plain))


def shard(rank: int) -> dict[str, Tensor]:
    shape = IMAGES[rank % len(IMAGES)]
    return {"img_data": torch.randn(shape, generator=torch.Generator().manual_seed(rank))}


def seconds(
    steps: list[Callable[[], None]], number: int, finish: Callable[[], None]
) -> list[tuple[float, float]]:
    """Median and fastest time of each kind of step, run in turns."""
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(number + 2):
        for step, taken in zip(steps, times, strict=True):
            finish()
            start = time.perf_counter()
            step()
            finish()
            if turn >= 2:  # the first two warm up
                taken.append(time.perf_counter() - start)
    return [(statistics.median(taken), min(taken)) for taken in times]


def training_step(model: nn.Module, batch: object) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        model(batch).mean().backward()
        optimizer.step()

    return step


def time_replicas(kind: str, devices: int, number: int) -> list[tuple[float, float]]:
    ids = ["cpu"] * devices if kind == "cpu" else list(range(devices))
    batch = [shard(rank) for rank in range(devices)]
    models = [UserScatteredDataParallel(model.to(kind), ids) for model in plain_and_synchronized()]
    finish = torch.cuda.synchronize if kind == "cuda" else lambda: None
    return seconds([training_step(model, batch) for model in models], number, finish)


def time_one_process(rank: int, kind: str, devices: int, number: int, folder: str) -> None:
    device = torch.device(kind, rank) if kind == "cuda" else torch.device("cpu")
    torch.set_num_threads(max(1, torch.get_num_threads() // devices))
    if kind == "cuda":
        torch.cuda.set_device(device)
    store = dist.FileStore(f"{folder}/store", devices)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", store=store, rank=rank, world_size=devices)
    batch = {key: value.to(device) for key, value in shard(rank).items()}
    models = [DistributedDataParallel(model.to(device)) for model in plain_and_synchronized()]
    taken = seconds([training_step(model, batch) for model in models], number, dist.barrier)
    exchanges = [process_exchange(), ProcessExchange(None)]
    row = torch.ones(1, 513, device=device)  # of a layer of 256 channels
    swaps = [partial(swap, exchange, row) for exchange in exchanges if exchange is not None]
    taken += [(median / SWAPS, best / SWAPS) for median, best in seconds(swaps, number, dist.barrier)]
    if rank == 0:
        torch.save(taken, f"{folder}/times.pt")
    dist.destroy_process_group()


def swap(exchange: ProcessExchange, row: Tensor) -> None:
    for _ in range(SWAPS):
        exchange.gather(row)


def time_processes(kind: str, devices: int, number: int) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(time_one_process, (kind, devices, number, folder), nprocs=devices)
        return torch.load(f"{folder}/times.pt")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    replicas = time_replicas(args.kind, args.devices, args.steps)
    *processes, quick, sockets = time_processes(args.kind, args.devices, args.steps)
    rows = {"replicas in one process": replicas, "processes (DistributedDataParallel)": processes}
    hardware = torch.cuda.get_device_name() if args.kind == "cuda" else processor()
    write = sys.stdout.write
    write("# Step time with synchronized and with plain BatchNorm\n\n")
    write(f"{args.devices} devices of kind {args.kind}, {hardware}; torch {torch.__version__}, ")
    write(
        f"Python {platform.python_version()}; {datetime.date.today()}; {args.steps} steps of each, in turns; "
    )
    write(f"shards {IMAGES[: args.devices]}.\n`python benchmarks/syncbn.py {' '.join(sys.argv[1:])}`\n\n")
    write("| devices | | BatchNorm, ms | synchronized, ms | ratio |\n|---|---|---|---|---|\n")
    for name, times in rows.items():
        for kind, (plain, synchronized) in zip(("median", "fastest"), zip(*times, strict=True), strict=True):
            write(f"| {name} | {kind} | {1000 * plain:.0f} | {1000 * synchronized:.0f} ")
            write(f"| {synchronized / plain:.3f} |\n")
    write(f"\nExchange for a layer of 256 channels, median: {1e6 * quick[0]:.0f} us, ")
    write(f"with the process group's collective {1e6 * sockets[0]:.0f} us.\n")


if __name__ == "__main__":
    main()
