"""How fast is training? Steps in each number format and memory layout, compared with a plain float32 loop.

Plain: the same network with torch's own BatchNorm and optimizer, in float32 and NCHW, on float images, with
``loss.item()`` in every step. All ways run in turns, so that other load on the machine affects all. A product
of two large matrices runs in turn with them; the arithmetic of a step is given as a share of its rate.

    python benchmarks/training.py --encoder resnet18dilated --decoder ppm_deepsup > benchmarks/results/x.md

It runs on the GPU if there is one, unless you pass ``--device cpu``.
"""

import argparse
import copy
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mit_semseg.data.datasets import TrainDataset
from mit_semseg.data.loader import loading
from mit_semseg.lib.nn import convert_model
from mit_semseg.losses import pixel_loss_sum
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.models.activation_checkpointing import checkpoint_activations
from mit_semseg.optim.optimizers import build_optimizer
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training.precision import AMP, Precision, faster_layout, fastest_amp
from mit_semseg.training.speed import choices
from mit_semseg.training.step import on_device, step

CLASSES = 150
RATE = 1e-3
MATRIX = {"cpu": 2048, "cuda": 8192}
MEGABYTE = 2**20


def build(args: argparse.Namespace) -> SegmentationModule:
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder(args.encoder, imagenet=False)
    decoder = ModelBuilder.build_decoder(args.decoder, channels=encoder.channels, num_class=CLASSES)
    deep_sup_scale = 0.4 if decoder.deep_supervision else None
    return SegmentationModule(encoder, decoder, pixel_loss_sum(), deep_sup_scale).train().to(args.device)


def dataset_in(folder: str, args: argparse.Namespace, module: Any) -> TrainDataset:
    """Eight smooth photos of the size to train on, with labels of blocks."""
    rng = np.random.Generator(np.random.Philox(0))
    height, width = args.size
    records = []
    for number in range(8):
        pixels = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8))
        pixels.resize((width, height), Image.Resampling.BICUBIC).save(f"{folder}/{number}.jpg", quality=90)
        label = Image.fromarray(rng.integers(0, CLASSES + 1, (height // 32, width // 32), np.uint8))
        label.resize((width, height), Image.Resampling.NEAREST).save(f"{folder}/{number}.png")
        files = {"fpath_img": f"{number}.jpg", "fpath_segm": f"{number}.png"}
        records.append({**files, "width": width, "height": height})
    options = SimpleNamespace(
        imgSizes=(min(height, width),),
        imgMaxSize=max(height, width),
        padding_constant=8,
        segm_downsampling_rate=module.encoder.strides[module.decoder.output_map],
    )
    return TrainDataset(folder, records, options, args.batch)


def plain_loop(module: SegmentationModule, batch: dict[str, Any], device: torch.device) -> Callable[[], None]:
    images, labels = batch["img_data"].cpu(), batch["seg_label"].cpu()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)

    def run() -> None:
        label = labels.to(device)
        outputs = module.decoder(module.encoder(images.to(device), return_feature_maps=True))
        main, aux = outputs if isinstance(outputs, tuple) else (outputs, None)
        loss = F.nll_loss(main, label, ignore_index=-1)
        if aux is not None:
            loss = loss + 0.4 * F.nll_loss(aux, label, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def own_step(
    module: SegmentationModule, shard: dict[str, Any], precision: Precision
) -> Callable[[dict[str, Any] | None], None]:
    rates = {"lr": (RATE, RATE), "beta1": 0.9, "weight_decay": 1e-4}
    optimizer = build_optimizer("SGD", module.encoder, module.decoder, **rates)
    process = ProcessInfo(0, 1, precision.device)

    def run(new: dict[str, Any] | None = None) -> None:
        batch = [on_device(new or shard, process.device)]
        step(module, optimizer, [batch], process, where="the benchmark", precision=precision)

    return run


def matrix_product(dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    side = MATRIX[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: a @ b


def precisions(module: SegmentationModule, device: torch.device) -> dict[str, Precision]:
    return {str(way): way for way in (Precision(device, *choice) for choice in choices(module, device))}


def build_way(name: str, args: argparse.Namespace, shard: dict[str, Any]) -> Callable[..., Any]:
    """The step of a row of the table, on a network of its own."""
    module, device = build(args), args.device
    if name == "plain":
        plain = convert_model(module, synchronized=False)
        return plain_loop(plain, on_device(shard, device), device)  # type: ignore[arg-type]
    name, *more = name.split(" + ")
    if "recomputed" in more:
        checkpoint_activations(module.encoder)
    if "compiled" in more:
        module.encoder.compile()
        module.decoder.compile()
    return own_step(module, shard, precisions(module, device)[name])


def peak_memory(name: str, args: argparse.Namespace, shard: dict[str, Any]) -> float:
    """Megabytes that it takes to build the network and train: allocated by torch on a GPU, else resident."""
    if args.device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        run = build_way(name, args, shard)
        torch.cuda.reset_peak_memory_stats()
        run()
        run()
        return (torch.cuda.max_memory_allocated() - before) / MEGABYTE
    words = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def resident(field: str) -> float:
    """Megabytes of this process in memory: now (VmRSS) or at most (VmHWM); 0 on other systems than Linux."""
    file = Path("/proc/self/status")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0.0)


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 2):
        for name, way in ways.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:  # the first two warm up
                times[name].append(time.perf_counter() - start)
    return times


def loop_with_loading(
    run: Callable[..., Any], dataset: TrainDataset, args: argparse.Namespace
) -> list[float]:
    """Seconds of an iteration, and of it the wait for data, with the loader's own choice of workers."""
    waits, start = 0.0, 0.0
    indices = range(args.iterations + 4)
    with loading(dataset.sub_batch, indices, workers=-1, device=args.device) as items:
        for number in indices:
            if number == 4:  # by then, the items that the worker read ahead are used up
                waits, start = 0.0, time.perf_counter()
            asked = time.perf_counter()
            item = next(items)
            waits += time.perf_counter() - asked
            run(item)
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        return [(time.perf_counter() - start) / args.iterations, waits / args.iterations]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="mobilenetv2dilated")
    parser.add_argument("--decoder", default="c1_deepsup")
    parser.add_argument("--size", type=int, nargs=2, default=(304, 400), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=12, help="of the loop with loading")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="time the compiled network, too")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    write = sys.stdout.write
    module, device = build(args), args.device
    with tempfile.TemporaryDirectory() as folder:
        dataset = dataset_in(folder, args, module)
        shard = dataset.sub_batch(0)
        if args.memory_of:
            before = resident("VmRSS")
            run = build_way(args.memory_of, args, shard)
            run()
            run()
            write(f"{resident('VmHWM') - before}\n")
            return
        amp = fastest_amp(device)
        auto = str(Precision(device, amp, faster_layout(module, device, amp)))
        default = str(Precision(device, "none", faster_layout(module, device, "none")))
        names = ["plain", *precisions(module, device), f"{auto} + recomputed"]
        names += [f"{auto} + compiled"] if args.compile else []
        steps = {name: build_way(name, args, shard) for name in names}
        products = {f"product of {amp}": matrix_product(dtype, device) for amp, dtype in AMP.items()}
        if device.type == "cpu":
            del products["product of fp16"]
        # Three times the forward pass: torch counts grouped convolutions wrongly in the backward pass.
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            copy.deepcopy(module)(on_device(shard, device))
        times = in_turns({**steps, **products}, args.rounds, device)
        taken, waited = loop_with_loading(steps[auto], dataset, args)
        del steps
        memory = {name: peak_memory(name, args, shard) for name in names}
    flops, height, width = 3 * counter.get_total_flops(), *shard["img_data"].shape[2:]
    rates = {
        amp: 2 * MATRIX[device.type] ** 3 / statistics.median(times[f"product of {amp}"])
        for amp in AMP
        if f"product of {amp}" in times
    }
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else processor()
    write("# Training steps\n\n")
    write(
        f"{hardware}, {torch.get_num_threads()} threads; load average {os.getloadavg()[0]:.1f} at the end; "
    )
    write(f"torch {torch.__version__}, Python {platform.python_version()}; {datetime.date.today()}; ")
    write(
        f"{args.rounds} rounds. {args.encoder} + {args.decoder}, {CLASSES} classes, {args.batch} images of "
    )
    write(f"{height} x {width} pixels; {flops / 1e9:.0f} GFLOP per step.\n")
    write(f"`python benchmarks/training.py {' '.join(sys.argv[1:])}`\n\n")
    write("| | ms, median | ms, fastest | times as fast as plain | images/s ")
    write("| share of the matrix product's rate | peak memory, MB |\n|---|---|---|---|---|---|---|\n")
    for name in names:
        median = statistics.median(times[name])
        ratio = statistics.median(a / b for a, b in zip(times["plain"], times[name], strict=True))
        amp = name.split(",")[0] if name.split(",")[0] in rates else "none"
        marks = f"{' (default)' * (name == default)}{' (amp auto)' * (name == auto)}"
        write(f"| {name}{marks} | {1000 * median:.1f} | {1000 * min(times[name]):.1f} | {ratio:.2f} ")
        write(f"| {args.batch / median:.2f} | {flops / median / rates[amp]:.0%} | {memory[name]:.0f} |\n")
    write("\nRates of the matrix products, GFLOP/s: ")
    write(", ".join(f"{amp} {rate / 1e9:.0f}" for amp, rate in rates.items()))
    write(
        f". With loading, {auto}: {1000 * taken:.1f} ms per iteration, of which {1000 * waited:.1f} ms are "
    )
    write("spent waiting for data. Ratios are medians over the rounds. ")
    write("Memory covers the network, the optimizer and two steps.\n")


def processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


if __name__ == "__main__":
    main()
