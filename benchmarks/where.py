"""Where does the time of a training step and of scoring an image go, and how far is it from the limit?

One table for each: milliseconds by kind of operator, counted FLOPs and bytes, and the share of the machine's
limit. The limits are measured in the same run: the rate of torch.mm in the number format, and the bandwidth
of a large copy. An operator cannot be faster than FLOPs / rate, nor than bytes / bandwidth; the larger of the
two is its limit.

    python benchmarks/where.py --cfg config/camvid-efficientnet_lite0-upernet.yaml TRAIN.amp bf16

Images of ``DATASET.list_train`` are used if the list exists, else random ones. Weights are random; a step
has one sub-batch, and no average of the weights. With ``--procs 2``, two processes on the CPU train together,
and the exchange between them is shown.
"""

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from operations import ORDER, Counter, Limits, measure_limits, median_seconds, seconds_by_kind
from torch import Tensor, nn
from torch.profiler import record_function
from yacs.config import CfgNode

from mit_semseg.config import load_config
from mit_semseg.data.loader import loading
from mit_semseg.data.resize import fit_size, round_up
from mit_semseg.errors import UserError
from mit_semseg.inference.load import load_network, scoring_settings
from mit_semseg.inference.predict import predict_labels
from mit_semseg.lib.nn.batchnorm import SynchronizedBatchNorm
from mit_semseg.lib.nn.sync import Exchange, process_exchange
from mit_semseg.models.layer_rates import layer_rates
from mit_semseg.optim.optimizers import build_optimizer
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.runtime.machine import device_name
from mit_semseg.training.checks import check_recipe
from mit_semseg.training.options import TrainOptions, train_options
from mit_semseg.training.parallel import ProcessParallel, parallel
from mit_semseg.training.precision import AMP, fastest_amp
from mit_semseg.training.setup import build_module, freeze_parts, train_dataset
from mit_semseg.training.speed import choose_precision
from mit_semseg.training.step import on_device, step

WARM_UP = 2
write = sys.stdout.write


class Recorded(Exchange):
    """The exchange of the processes, visible to the profiler."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner

    def gather(self, rows: Tensor) -> Tensor:
        with record_function("exchange of BatchNorm"):
            return self._inner.gather(rows)


def sizes_of(options: TrainOptions) -> tuple[int, int]:
    """Height and width of random images: those of a photo of 4:3 at the middle short edge, or of a crop."""
    data = options.data
    if data.augment == "crop":
        return tuple(data.crop_size)  # type: ignore[return-value]
    short_edge = sorted(data.imgSizes)[len(data.imgSizes) // 2]
    width, height = fit_size(4 * short_edge, 3 * short_edge, short_edge, data.imgMaxSize)
    return round_up(height, data.padding_constant), round_up(width, data.padding_constant)


def random_batch(options: TrainOptions, device: torch.device) -> dict[str, Any]:
    height, width = sizes_of(options)
    batch, rate = options.run.batch_size_per_gpu, options.module.label_stride
    labels = torch.arange(batch * math.ceil(height / rate) * math.ceil(width / rate), device=device)
    labels = labels.remainder(options.module.model.num_class)
    return {
        "img_data": torch.randn(batch, options.module.model.in_channels, height, width, device=device),
        "seg_label": labels.view(batch, math.ceil(height / rate), math.ceil(width / rate)),
        "info": [],
    }


def wait_for_data(run: Any, dataset: Any, options: TrainOptions, steps: int, device: torch.device) -> float:
    """Mean seconds that a step waits for the loader processes."""
    waits = 0.0
    with loading(
        dataset.sub_batch, range(steps + WARM_UP), workers=options.run.workers, device=device
    ) as items:
        for number in range(steps + WARM_UP):
            asked = time.perf_counter()
            item = next(items)
            waits += (time.perf_counter() - asked) * (number >= WARM_UP)
            if isinstance(item, UserError):
                raise item
            run(on_device(item, device))
    return waits / steps


def training(options: TrainOptions, limits: Limits | None, steps: int, process: ProcessInfo) -> None:
    """The table of a training step, by the first process."""
    device = process.device
    torch.manual_seed(0)
    module = build_module(options.module).to(device).train()
    freeze_parts(module, options.module)
    rates = {"lr": options.lr, "beta1": options.beta1, "weight_decay": options.weight_decay}
    optimizer = build_optimizer(
        options.optim,
        module.encoder,
        module.decoder,
        encoder_rates=layer_rates(module.encoder, options.layer_decay),
        **rates,
    )
    precision = choose_precision(options.speed, module, device)
    if options.speed.compile:
        module.encoder.compile()
        module.decoder.compile()
    exchange = process_exchange()
    if exchange is not None:
        for layer in module.modules():
            if isinstance(layer, SynchronizedBatchNorm):
                layer.exchange = Recorded(exchange)
    net: nn.Module = parallel(module, process, [device])

    def run(batch: dict[str, Any]) -> None:
        clip = options.run.clip_grad_norm
        where = "the benchmark"
        step(net, optimizer, [[batch]], process, where=where, clip_grad_norm=clip, precision=precision)

    listed = Path(options.run.train_list).is_file()
    dataset = train_dataset(options) if listed else None
    batch = on_device(dataset.sub_batch(process.rank), device) if dataset else random_batch(options, device)
    for _ in range(WARM_UP):
        run(batch)
    wall = median_seconds(lambda: run(batch), steps, device)
    found = seconds_by_kind(lambda: run(batch), steps, device)
    counter = Counter(optimizer)
    with counter:
        run(batch)
    if isinstance(net, ProcessParallel):
        with net.no_sync():
            found["exchange of gradients"] = max(
                0.0, wall - median_seconds(lambda: run(batch), steps, device)
            )
    if dataset:
        found["wait for data"] = wait_for_data(run, dataset, options, steps, device)
    if limits is None:
        return
    shape = " x ".join(map(str, batch["img_data"].shape))
    write(f"## A training step\n\n{options.run.title}, {shape}, {precision}, ")
    write(f"{process.size} process{'es' * (process.size > 1)}. ")
    write("Images of the training list. " if dataset else "Random images; the training list is not here. ")
    table(found, counter, limits, precision.amp, wall)


def scoring(cfg: CfgNode, options: TrainOptions, limits: Limits, steps: int, device: torch.device) -> None:
    """The table of scoring an image at one scale, from pixels to labels."""
    settings, size = scoring_settings(cfg), sizes_of(options)
    network = load_network(options.module.model, ("", ""), device, settings.amp)
    image = torch.rand(1, options.module.model.in_channels, *size)
    if options.module.model.in_channels == 3:
        image = (255 * image).to(torch.uint8)

    def run() -> None:
        predict_labels(network, [image], size, settings)

    for _ in range(WARM_UP):
        run()
    wall = median_seconds(run, steps, device)
    found = seconds_by_kind(run, steps, device)
    with Counter() as counter:
        run()
    write(f"## Scoring an image\n\n{options.run.title}, {size[0]} x {size[1]}, one scale, ")
    write(f"{'float32' if settings.amp == 'none' else settings.amp}. ")
    table(found, counter, limits, settings.amp, wall)


def table(found: dict[str, float], counter: Counter, limits: Limits, amp: str, wall: float) -> None:
    total = found["total"]
    rate = limits.flops.get(amp, limits.flops["none"])
    write(
        f"Median {1000 * wall:.1f} ms; with the profiler, {1000 * total:.1f} ms, which are divided here:\n\n"
    )
    write("| | ms | share | GFLOP | GB | of the matrix rate | of the bandwidth | of the limit |\n")
    write("|---|---|---|---|---|---|---|---|\n")
    known = [kind for kind in ORDER if found.get(kind) or counter.flops.get(kind)]
    for kind in known:
        taken, flops, moved = found.get(kind, 0.0), counter.flops[kind], counter.bytes[kind]
        write(row(kind, taken, total, flops, moved, rate, limits.bandwidth))
    outside = max(0.0, total - sum(found.get(kind, 0.0) for kind in ORDER))
    write(f"| outside of operators | {1000 * outside:.1f} | {outside / total:.0%} | | | | | |\n")
    flops, moved = sum(counter.flops.values()), sum(counter.bytes.values())
    write(row("**all**, without the profiler", wall, wall, flops, moved, rate, limits.bandwidth))
    for name in ("exchange of gradients", "wait for data"):
        if name in found:
            write(f"| {name} | {1000 * found[name]:.1f} | {found[name] / wall:.0%} | | | | | |\n")
    write("\n")


def row(
    kind: str, taken: float, total: float, flops: float, moved: float, rate: float, bandwidth: float
) -> str:
    cells = [f"{1000 * taken:.1f}", f"{taken / total:.0%}", f"{flops / 1e9:.1f}", f"{moved / 1e9:.2f}"]
    shares = [flops / rate, moved / bandwidth, max(flops / rate, moved / bandwidth)]
    cells += [f"{share / taken:.0%}" if taken and share else "" for share in shares]
    return f"| {kind} | {' | '.join(cells)} |\n"


def one_of_several(rank: int, cfg: CfgNode, count: int, steps: int, folder: str, limits: Limits) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    process = ProcessInfo(rank, count, torch.device("cpu"))
    training(train_options(cfg), limits if rank == 0 else None, steps, process)
    sys.stdout.flush()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", required=True)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--procs", type=int, default=1, help="processes on the CPU that train together")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    args = parser.parse_args()
    cfg = load_config(args.cfg, args.opts)
    options, device = train_options(cfg), args.device
    options.module.model.check()
    check_recipe(options)
    formats = {"none": torch.float32}
    used = {fastest_amp(device), cfg.TRAIN.amp, cfg.INFERENCE.amp} & {"bf16", "fp16"}
    limits = measure_limits(device, {**formats, **{name: AMP[name] for name in sorted(used)}})
    write("# Where the time goes\n\n")
    write(
        f"{device_name(device)}, {torch.get_num_threads()} threads; load average {os.getloadavg()[0]:.1f}; "
    )
    write(f"torch {torch.__version__}, Python {platform.python_version()}. Limits: ")
    write(
        ", ".join(f"{'float32' if k == 'none' else k} {v / 1e9:.0f} GFLOP/s" for k, v in limits.flops.items())
    )
    write(f"; memory {limits.bandwidth / 1e9:.1f} GB/s.\n")
    write(f"`python benchmarks/where.py {' '.join(sys.argv[1:])}`\n\n")
    sys.stdout.flush()
    if args.procs > 1:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(
                one_of_several, (cfg, args.procs, args.steps, folder, limits), nprocs=args.procs
            )
    else:
        training(options, limits, args.steps, ProcessInfo(0, 1, device))
    scoring(cfg, options, limits, args.steps, device)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
