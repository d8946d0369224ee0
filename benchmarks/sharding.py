"""How much memory does each of several processes need for a model, with ``TRAIN.parallel`` ddp and fsdp?

A vision transformer of 114 million parameters + C1 takes three steps of AdamW on random images, in processes
on the CPU. Each process counts the bytes of its parameters, gradients and optimizer state after the last
backward pass, and reads how much memory the system has given to it.

    python benchmarks/sharding.py > benchmarks/results/sharding.md
"""

import argparse
import datetime
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from mit_semseg.config import load_config
from mit_semseg.optim import build_optimizer
from mit_semseg.runtime.distributed import (
    ProcessInfo,
    broadcast_module,
    gather_from_processes,
    local_part,
    whole_tensor,
)
from mit_semseg.runtime.launch import run_processes
from mit_semseg.training.options import train_options
from mit_semseg.training.parallel import parallel
from mit_semseg.training.setup import build_module
from mit_semseg.training.sharding import shard
from mit_semseg.training.step import step

MODEL = [
    *("MODEL.arch_encoder", "dinov2_base", "MODEL.encoder_options", "depth: 16", "MODEL.pretrained", "False"),
    *("MODEL.arch_decoder", "c1", "TRAIN.label_resolution", "full"),
]
STEPS = 3
SIDE = 56  # of an image, in pixels; few, so that feature maps need little
MB = 1e6


def in_use() -> float:
    """Memory that the system has given to this process, in MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MB


def measure(process: ProcessInfo, mode: str) -> list[dict[str, float]]:
    """The measurements of all processes, by their names."""
    options = train_options(load_config(None, MODEL))
    before = in_use()
    torch.manual_seed(0)
    module = build_module(options.module).train()
    broadcast_module(module, process.device)
    if mode == "fsdp":
        shard(module, process)
    settings = {"beta1": 0.9, "weight_decay": 0.01}
    optimizer = build_optimizer("AdamW", module.encoder, module.decoder, lr=(1e-4, 1e-4), **settings)
    net = parallel(module, process, [process.device])
    losses, seconds = [], []
    for number in range(STEPS):
        generator = torch.Generator().manual_seed(number * process.size + process.rank)
        batch = {
            "img_data": torch.randn(1, 3, SIDE, SIDE, generator=generator),
            "seg_label": torch.randint(
                -1, options.module.model.num_class, (1, SIDE, SIDE), generator=generator
            ),
        }
        start = time.perf_counter()
        losses.append(step(net, optimizer, [[batch]], process, where=f"step {number}").loss)
        seconds.append(time.perf_counter() - start)
    found = {
        "parameters": size(module.parameters()),
        "gradients": size(weight.grad for weight in module.parameters() if weight.grad is not None),
        "optimizer": size(
            value
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ),
        "resident": in_use() - before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB - before,
        "seconds": min(seconds),
        "count": sum(weight.numel() for weight in module.parameters()),
        "loss": losses[-1],
        "checksum": checksum(module),
    }
    return gather_from_processes(found)


def size(tensors: Iterator[Tensor]) -> float:
    """MB in this process."""
    return sum(local_part(one).numel() * one.element_size() for one in tensors) / MB


def checksum(module: nn.Module) -> float:
    return sum(whole_tensor(weight.detach()).double().abs().sum().item() for weight in module.parameters())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--procs", type=int, default=2)
    args = parser.parse_args()
    # With this, the C library gives the memory of a freed tensor back at once, so that peaks are comparable.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    devices = [torch.device("cpu")] * args.procs
    found = {mode: run_processes(measure, devices, mode, timeout_s=600) for mode in ("ddp", "fsdp")}
    out = sys.stdout.write
    out("# Memory of a sharded training\n\n")
    out(
        f"`python benchmarks/sharding.py --procs {args.procs}`, {datetime.date.today()}, "
        f"{platform.machine()}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.0f}), Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}, gloo\n\n"
    )
    first = found["ddp"][0]
    out(
        f"DINOv2-base with 16 blocks + C1: {first['count'] / 1e6:.1f} million parameters, float32, AdamW, "
        f"{args.procs} processes with one image of {SIDE} x {SIDE} pixels each. MB of 10^6 bytes in each "
        "process.\n\n"
    )
    out("| | ddp | fsdp | fsdp / ddp |\n|---|---|---|---|\n")
    for name in ("parameters", "gradients", "optimizer", "resident", "peak"):
        ddp, fsdp = (max(rank[name] for rank in found[mode]) for mode in ("ddp", "fsdp"))
        out(f"| {LABELS[name]} | {ddp:.0f} | {fsdp:.0f} | {fsdp / ddp:.2f} |\n")
    ddp, fsdp = (max(rank["seconds"] for rank in found[mode]) for mode in ("ddp", "fsdp"))
    out(f"| seconds of the fastest step | {ddp:.1f} | {fsdp:.1f} | {fsdp / ddp:.2f} |\n\n")
    other = found["fsdp"][0]
    out(
        f"After {STEPS} steps, the losses are {first['loss']:.6f} and {other['loss']:.6f}, and the sums of "
        f"the weights' absolute values are {first['checksum']:.6f} and {other['checksum']:.6f}.\n"
    )
    return 0


LABELS = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "resident": "resident memory of the process after the steps, less that before the model was built",
    "peak": "peak of the resident memory, less the same",
}

if __name__ == "__main__":
    sys.exit(main())
