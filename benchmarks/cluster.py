"""How does training scale to many GPUs? Predicted step times, and a check on this machine.

The check measures all-reduces of 2 processes, the messages of synchronized BatchNorm, and the training step
of one process; predicts the step of 1, 2 and 4 processes from them; and measures these. The table for GPUs
takes gradients, BatchNorm layers and FLOPs from the models, bandwidths and latencies from publications
(benchmarks/simulation/network.py), and the speed of a GPU from ``--share``, which is an assumption.

    python benchmarks/cluster.py > benchmarks/results/cluster.md
    python benchmarks/cluster.py --no-check --machine a100 --share 0.2 --batch 4
"""

import argparse
import datetime
import os
import platform
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
from simulation.measure import CLASSES, DECODER, ENCODER, IMAGES, images_per_second, processes
from simulation.network import MACHINES, Cluster, LocalRing, Machine, fit_ring
from simulation.steps import Layer, StepTime, layers_of, step_time, without_messages

from mit_semseg.runtime.machine import cpu_count

MODELS = (("resnet50dilated", "ppm_deepsup", (456, 600)), ("hrnetv2", "c1", (480, 608)))
GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
PHOTO = (512, 683)  # ADE20K's images, on average
write = sys.stdout.write


@dataclass(frozen=True)
class Setting:
    """What a job runs, apart from the number of GPUs."""

    layers: list[Layer]
    machine: Machine
    batch: int
    share: float
    rate: float  # images that one core loads in a second
    passes: int = 1

    def on(self, gpus: int, *, by_all_reduce: bool = False) -> StepTime:
        """The step on this number of GPUs; ``by_all_reduce``: if BatchNorm summed instead of gathering."""
        cluster = Cluster(self.machine, gpus)
        compute = 3 * sum(layer.flops for layer in self.layers) / (self.share * self.machine.flops)

        def summed(size: float) -> float:
            return cluster.all_reduce(size / gpus)  # the row of a rank is the n-th part of what is gathered

        return step_time(
            self.layers,
            compute,
            gpus,
            cluster.all_reduce,
            summed if by_all_reduce else cluster.all_gather,
            passes=self.passes,
            data_s=self.passes * self.batch * self.machine.gpus / (self.machine.cores * self.rate),
        )


def check(steps: int, rounds: int) -> None:
    """Predicted and measured times of 1, 2 and 4 processes on this machine."""
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: [], 4: []}
    for _ in range(rounds):
        for count, results in found.items():
            results.append(processes(count, steps))
    fastest = {count: min(result["step"][0] for result in found[count]) for count in found}
    alone = {count: min(result["alone"][0] for result in found[count]) for count in found}
    medians = {count: sorted(result["step"][1] for result in found[count])[rounds // 2] for count in found}
    reduces = {
        count: {size: min(result["all_reduce"][size][0] for result in found[count]) for size in sizes}
        for count, sizes in ((count, found[count][0]["all_reduce"]) for count in (2, 4))
    }
    messages = {count: min(result["message"][0] for result in found[count]) for count in (2, 4)}
    latency, bandwidth = fit_ring(reduces[2], 2)
    cores = cpu_count()
    write("## Check on this machine\n\n")
    write(f"{cores} cores, {platform.machine()}, load average {os.getloadavg()[0]:.1f} at the end; torch ")
    write(
        f"{torch.__version__}, Python {platform.python_version()}; {datetime.date.today()}; {rounds} rounds "
    )
    write(f"of {steps} steps. {ENCODER} + {DECODER}, {CLASSES} classes, {IMAGES[0]} images of ")
    write(f"{IMAGES[1]} x {IMAGES[2]} in each process, one thread each, gloo.\n\n")
    write(f"From all-reduces of 2 processes: {1e6 * latency:.0f} us for each step of the ring, ")
    write(f"{bandwidth / 1e9:.2f} GB/s. A message of BatchNorm takes {1e6 * messages[2]:.0f} us between 2 ")
    write(f"processes and {1e6 * messages[4]:.0f} us between 4 (shared memory). Fastest of all rounds:\n\n")
    write("| all-reduce | 2 processes, ms | formula | 4 processes, ms | formula |\n|---|---|---|---|---|\n")
    for size in reduces[2]:
        write(f"| {size // 1024} KiB |")
        for count in (2, 4):
            ring = LocalRing(latency, bandwidth, messages[count], count, max(1.0, count / cores))
            write(f" {1000 * reduces[count][size]:.2f} | {1000 * ring.all_reduce(size):.2f} |")
        write("\n")
    layers = layers_of(ENCODER, DECODER, IMAGES, CLASSES)
    write(
        "\n| processes | arithmetic, ms | BatchNorm | gradients | predicted | measured, fastest | measured, "
    )
    write("median | measured / predicted | without exchange | measured / predicted from it |\n")
    write("|---|---|---|---|---|---|---|---|---|---|\n")
    for count in found:
        crowding = max(1.0, count / cores)
        ring = LocalRing(latency, bandwidth, messages.get(count, 0.0), count, crowding)
        predicted = step_time(
            layers, crowding * fastest[1], count, ring.all_reduce, ring.all_gather, one_link=False
        )
        again = step_time(layers, alone[count], count, ring.all_reduce, ring.all_gather, one_link=False)
        parts = (predicted.compute, predicted.sync, predicted.exchange, predicted.total)
        write(f"| {count} |" + "".join(f" {1000 * part:.0f} |" for part in parts))
        write(f" {1000 * fastest[count]:.0f} | {1000 * medians[count]:.0f} ")
        write(f"| {fastest[count] / predicted.total:.2f} | {1000 * alone[count]:.0f} ")
        write(f"| {fastest[count] / again.total:.2f} |\n")
    write(
        "\nThe arithmetic of one process is measured. Where there are more processes than cores, it and the "
    )
    write("all-reduces are multiplied by processes / cores. `without exchange` is n processes that train at ")
    write(
        "the same time, but do not exchange anything: what it has above the arithmetic comes from other work "
    )
    write("on the machine and from shared caches and memory.\n\n")


def limit_of(time: StepTime) -> str:
    """What costs most apart from the arithmetic, if it is a tenth of the step."""
    parts = {"BatchNorm's messages": time.sync, "gradients": time.exchange, "data": time.data}
    name = max(parts, key=lambda part: parts[part])
    return name if parts[name] > 0.1 * time.total else "arithmetic"


def row(gpus: int, batch: int, time: StepTime) -> str:
    parts = (time.compute, time.sync, time.exchange, time.data, time.total)
    cells = " | ".join(f"{1000 * part:.1f}" for part in parts)
    rate = f"{gpus * batch / time.total:,.0f}"
    return f"{cells} | {rate} | {time.compute / time.total:.0%} | {limit_of(time)} |\n"


def predict(args: argparse.Namespace, rate: float) -> None:
    """The tables for GPUs."""
    machine = MACHINES[args.machine]
    machine = replace(machine, cores=args.cores or machine.cores)
    write(f"## Prediction for {machine.name}\n\n")
    write(f"{machine.gpus} GPUs in a node, NVLink {machine.nvlink / 1e9:.0f} GB/s and InfiniBand ")
    write(f"{machine.infiniband / 1e9:.0f} GB/s for each GPU and direction, of which 80 % are reached (an ")
    write(f"assumption). A GPU reaches {args.share:.0%} of {machine.flops / 1e12:.0f} TFLOP/s in bf16, ")
    write(
        f"also assumed. {machine.cores} cores in a node, each of which loads {rate:.0f} images a second of "
    )
    write(f"{PHOTO[0]} x {PHOTO[1]} pixels. `data` is the wait for them.\n\n")
    head = "arithmetic, ms | BatchNorm | gradients | data | step | images/s | efficiency | limit |\n"
    for encoder, decoder, size in MODELS:
        images = (args.batch, *size)
        layers = layers_of(encoder, decoder, images)
        setting = Setting(layers, machine, args.batch, args.share, rate)
        norms = sum(layer.channels > 0 for layer in layers)
        gradients, flops = sum(layer.gradient for layer in layers), 3 * sum(layer.flops for layer in layers)
        write(f"### {encoder} + {decoder}\n\n")
        write(f"{gradients / 1e6:.0f} MB of gradients, {norms} synchronized layers, ")
        write(f"{flops / 1e12:.2f} TFLOP for each step of {args.batch} images ")
        write(f"of {size[0]} x {size[1]}.\n\n")
        needed = [
            machine.gpus * args.batch / time.total / rate
            for time in (
                setting.on(machine.gpus),
                replace(setting, layers=without_messages(layers)).on(machine.gpus),
            )
        ]
        write(f"The {machine.gpus} GPUs of a node need {needed[0]:.0f} cores to load data, or ")
        write(f"{needed[1]:.0f} without the messages of BatchNorm; with fewer, data is the limit.\n\n")
        write(f"| GPUs | {head}|---|---|---|---|---|---|---|---|---|\n")
        for gpus in GPUS:
            write(f"| {gpus} | {row(gpus, args.batch, setting.on(gpus))}")
        for gpus in (GPUS[3], GPUS[-1]):
            write(f"\nWhat changes a step of {gpus} GPUs:\n\n")
            write(f"| | {head}|---|---|---|---|---|---|---|---|---|\n")
            larger = 4 * args.batch
            groups = layers_of(encoder, decoder, images, norm="group") if decoder != "c1" else None
            rows = {
                "as above": (args.batch, setting.on(gpus)),
                f"TRAIN.batch_size_per_gpu {larger}": (
                    larger,
                    replace(setting, layers=layers_of(encoder, decoder, (larger, *size)), batch=larger).on(
                        gpus
                    ),
                ),
                "TRAIN.accumulate 4": (larger, replace(setting, passes=4).on(gpus)),
                "TRAIN.freeze bn": (args.batch, replace(setting, layers=without_messages(layers)).on(gpus)),
                **(
                    {"MODEL.decoder_norm group": (args.batch, replace(setting, layers=groups).on(gpus))}
                    if groups
                    else {}
                ),
                "sums instead of a gathering (not implemented)": (
                    args.batch,
                    setting.on(gpus, by_all_reduce=True),
                ),
            }
            for name, (batch, time) in rows.items():
                write(f"| {name} | {row(gpus, batch, time)}")
        write("\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machine", choices=sorted(MACHINES), default="h100")
    parser.add_argument(
        "--share", type=float, default=0.3, help="of the matrix rate that a training step reaches (assumed)"
    )
    parser.add_argument("--batch", type=int, default=2, help="images on each GPU")
    parser.add_argument(
        "--rate", type=float, help="images that one core loads in a second (default: measure)"
    )
    parser.add_argument("--cores", type=int, help="of a node (default: those of the machine)")
    parser.add_argument("--no-check", action="store_true", help="no training steps on this machine")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    write(f"# Training on many GPUs\n\n`python benchmarks/cluster.py {' '.join(sys.argv[1:])}`\n\n")
    if not args.no_check:
        check(args.steps, args.rounds)
    predict(args, args.rate or images_per_second(PHOTO))


if __name__ == "__main__":
    main()
