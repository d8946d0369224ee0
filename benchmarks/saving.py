"""For how long does a save of the state block the training, with a model of 100 million parameters?

Compares a save by the thread with one in the training itself, in one run: AdamW with both moments, a moving
average, 1.6 GB. While the thread writes, the training computes products of small matrices; the slowest one
shows how long it was held up.

    python benchmarks/saving.py > benchmarks/results/saving.md
"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from mit_semseg.config import load_config
from mit_semseg.optim.ema import WeightAverage
from mit_semseg.training.counters import TrainState
from mit_semseg.training.options import train_options
from mit_semseg.training.saving import Saver
from mit_semseg.training.state import state_content, write_state


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; by default a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        options = train_options(load_config(None, ["DIR", folder])).run
        module = nn.Module()
        module.encoder = nn.Sequential(*(nn.Linear(1000, 1000, bias=False) for _ in range(99)))
        module.decoder = nn.Linear(1000, 1000, bias=False)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)
        for weight in module.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        optimizer.zero_grad()
        parts = (options, "", TrainState(), module, optimizer, {"average": WeightAverage(module, 0.9)})
        start = time.perf_counter()
        write_state(options, state_content(*parts))
        inline = time.perf_counter() - start
        size = Path(folder, "state.pth").stat().st_size
        saver, copies, processor, steps, writes = Saver(), [], [], [], []
        done: list[float] = []
        matrix = torch.randn(300, 300)
        for _ in range(args.saves):
            saver.wait()
            done.clear()
            start, used = time.perf_counter(), time.process_time()
            content = saver.snapshot.of(state_content(*parts), "state")
            saver.start(lambda content=content: write_state(options, content), lambda: done.append(1.0))
            copies.append(time.perf_counter() - start)
            processor.append(time.process_time() - used)
            slowest = 0.0
            while not done:
                before = time.perf_counter()
                _ = matrix @ matrix
                saver.poll()
                slowest = max(slowest, time.perf_counter() - before)
            steps.append(slowest)
            writes.append(time.perf_counter() - start)
    out = sys.stdout.write
    out("# How long a save of the state blocks the training\n\n")
    out(
        f"`python benchmarks/saving.py --saves {args.saves}`, {datetime.date.today()}, {platform.machine()}, "
        f"{os.cpu_count()} cores ({torch.get_num_threads()} threads, load {os.getloadavg()[0]:.0f}), Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}\n\n"
    )
    out(f"100 million parameters, AdamW, a moving average: a file of {size / 1e9:.2f} GB.\n\n")
    out("| | seconds |\n|---|---|\n")
    out(f"| written by the training itself | {inline:.2f} |\n")
    out(f"| copy, first save (new memory) | {copies[0]:.2f} |\n")
    out(f"| copy, later saves, fastest and slowest | {min(copies[1:]):.2f}, {max(copies[1:]):.2f} |\n")
    out(f"| of that, time on a processor, fastest | {min(processor[1:]):.2f} |\n")
    out("| longest pause while the thread writes, median and slowest of the saves | ")
    out(f"{sorted(steps)[len(steps) // 2]:.2f}, {max(steps):.2f} |\n")
    out(f"| until the file is on the disk, slowest | {max(writes):.2f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
