"""How fast are exported models? PyTorch as test.py uses it, onnxruntime and OpenVINO, with labels compared.

All ways compute the scores of one image with all cores, from 8-bit pixels to logits at the network's stride.
They run in turns, so that other load on the machine affects all, and each time in a process of its own,
because the runtimes in one process may slow down each other. The released model has its weights, and is
calibrated with images of CamVid. The other two have random weights and are calibrated with noise, because
only their speed is of interest.

    python benchmarks/export.py data/camvid > benchmarks/results/export.md
"""

import argparse
import datetime
import multiprocessing
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mit_semseg.config import load_config
from mit_semseg.data.datasets import ValDataset
from mit_semseg.evaluation.smaller import calibration_images
from mit_semseg.export import Metadata
from mit_semseg.export.graph import ExportGraph
from mit_semseg.export.opened import openvino_core
from mit_semseg.export.smaller import Images, quantized
from mit_semseg.export.write import FORMATS, LEAST_OPSET
from mit_semseg.inference import ExportedNetwork, ScoringNetwork
from mit_semseg.inference.checkpoints import trained_weights
from mit_semseg.inference.load import load_network, model_spec
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.training.precision import fastest_amp

RELEASED = "camvid-efficientnet_lite0-upernet"
PAIRS = (("mobilenetv2dilated", "c1", 320), ("resnet50dilated", "ppm", 2048))
SIZE = (480, 640)
NOISE_IMAGES = 2
CPU = torch.device("cpu")
MODULE = ".pt"  # the extension of a module that is not exported
CALLS = 4  # in each process; the first warms up


class Way(NamedTuple):
    """A file that `torch.save` or an export has written, and the number format to compute in."""

    file: Path
    amp: str = "none"


class Measured(NamedTuple):
    """Medians of a process, in seconds: of the time of a call, and of its processor time over all threads."""

    time: float
    busy: float
    labels: NDArray[np.int64]


class Model(NamedTuple):
    """A network to measure, an image (1, 3, H, W) uint8, and the images to calibrate with."""

    title: str
    module: torch.nn.Module
    num_class: int
    image: torch.Tensor
    calibration: Images


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the training.odgt and validation.odgt of CamVid")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="on a busy machine, threads wait for each other, and PyTorch's do so actively; with 1, the "
        "processor time is that of an idle machine",
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    out = sys.stdout.write
    out("# Exported models\n\n")
    out(f"{processor()}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads; ")
    out(", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "nncf")))
    out(f", Python {platform.python_version()}; {datetime.date.today()}.\n")
    out(f"`python benchmarks/export.py {' '.join(sys.argv[1:])}`\n\n")
    out(f"{args.rounds} rounds, in which all ways run in turns, each in a process of its own. Times are ")
    out("medians; 'times as fast'\nis the median of the ratios to PyTorch in float32 in each round. ")
    out("Processor time is the sum over all threads, which other\nprograms on the machine affect least. ")
    out("Other labels: positions of the score map whose class is not that of PyTorch in\nfloat32.\n")
    models = [released(args.data), *(random_weights(*pair) for pair in PAIRS)]
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            report(model, ways_of(model, Path(folder)), args.rounds)
    out(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}.\n")


def processor() -> str:
    """The name of the processor, and those of its extensions that matter to speed."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        info = ""
    found = re.search(r"model name\s*: (.*)", info)
    extensions = [word for word in ("avx2", "avx512f", "vnni", "bf16", "amx_tile") if word in info]
    return f"{found[1]} ({', '.join(extensions)})" if found else platform.machine()


def released(data: Path) -> Model:
    """The released model with its weights and the first validation image."""
    lists = [
        "DATASET.list_train",
        str(data / "training.odgt"),
        "DATASET.list_val",
        str(data / "validation.odgt"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        cfg = load_config(
            RELEASED, ["DIR", f"{folder}/{RELEASED}", "DATASET.root_dataset", str(data), *lists]
        )
        network = load_network(model_spec(cfg), trained_weights(cfg, "TEST"), CPU)
    training, validation = (
        ValDataset(data, cfg.DATASET[key], cfg.DATASET) for key in ("list_train", "list_val")
    )
    image = validation.as_bytes(0)["img_data"][0]
    calibration = calibration_images(training)[::32]  # few, because only the speed is measured
    height, width = image.shape[2:]
    return Model(f"{RELEASED}, {height} x {width}", network.module, cfg.DATASET.num_class, image, calibration)


def random_weights(encoder: str, decoder: str, fc_dim: int) -> Model:
    """A pair with random weights, an image of noise, and more noise to calibrate with."""
    torch.manual_seed(0)
    parts = (
        ModelBuilder.build_encoder(encoder, imagenet=False),
        ModelBuilder.build_decoder(decoder, fc_dim=fc_dim, num_class=150, use_softmax=True),
    )
    module = SegmentationModule(*parts, None).eval()
    images = torch.randint(0, 256, (NOISE_IMAGES, 3, *SIZE), dtype=torch.uint8)
    calibration = [lambda k=k: images[k : k + 1].numpy() for k in range(NOISE_IMAGES)]
    return Model(f"{encoder} + {decoder}, {SIZE[0]} x {SIZE[1]}", module, 150, images[:1], calibration)


def measure(way: Way, image: torch.Tensor, threads: int) -> Measured:
    """Score an image in this process."""
    torch.set_num_threads(threads)
    network: ScoringNetwork | ExportedNetwork
    if way.file.suffix == MODULE:
        network = ScoringNetwork.prepared(torch.load(way.file, weights_only=False), CPU, amp=way.amp)
    else:
        network = ExportedNetwork(way.file, amp=way.amp)
    times, busy = [], []
    for _ in range(CALLS):
        start, start_busy = time.perf_counter(), time.process_time()
        scores = network(image)
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - start_busy)
    return Measured(statistics.median(times[1:]), statistics.median(busy[1:]), scores.argmax(-1).numpy())


def report(model: Model, ways: dict[str, Way], rounds: int) -> None:
    """Measure all ways and write their table."""
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    threads = torch.get_num_threads()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(rounds):
            for name, way in ways.items():
                found[name].append(pool.apply(measure, (way, model.image, threads)))
    out = sys.stdout.write
    out(f"\n## {model.title}\n\n| | ms | fastest | times as fast | processor ms | times as fast ")
    out("| other labels |\n")
    out("|---|---|---|---|---|---|---|\n")
    base = found[next(iter(ways))]
    for name, each in found.items():
        times, busy = [one.time for one in each], [one.busy for one in each]
        other = (each[0].labels != base[0].labels).mean()
        out(f"| {name} | {1000 * statistics.median(times):.0f} | {1000 * min(times):.0f} ")
        out(f"| {_ratio([one.time for one in base], times):.2f} | {1000 * statistics.median(busy):.0f} ")
        out(f"| {_ratio([one.busy for one in base], busy):.2f} | {100 * other:.2f} % |\n")
    sys.stdout.flush()


def _ratio(base: list[float], taken: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(base, taken, strict=True))


def ways_of(model: Model, folder: Path) -> dict[str, Way]:
    """Ways to score the image of a model, by name; PyTorch in float32 is the first. Writes their files."""
    first = ScoringNetwork.prepared(model.module, CPU)
    module = folder / f"module{MODULE}"
    torch.save(model.module, module)
    ways = {"PyTorch float32": Way(module)}
    if fastest_amp(CPU) == "bf16":  # others compute it more slowly than float32
        ways["PyTorch bf16"] = Way(module, "bf16")
    count = model.num_class
    metadata = Metadata(
        names=tuple(map(str, range(count))),
        colors=((0, 0, 0),) * count,
        imgSizes=(min(model.image.shape[2:]),),
        imgMaxSize=max(model.image.shape[2:]),
        padding_constant=32,
        stride=first.stride,
        grid=first.grid,
        outputs=("labels", "logits"),
        model=model.title,
        config="{}",
        weights=(),
        version="",
    )
    parts: Any = model.module
    graph = ExportGraph(parts.encoder, parts.decoder, count, scores=False)
    bf16 = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for package, format in (("onnxruntime", "onnx"), ("OpenVINO", "openvino")):
        extension, write = FORMATS[format]
        float32, int8 = folder / f"float32{extension}", folder / f"int8{extension}"
        write(graph, metadata, float32, LEAST_OPSET)
        quantized(float32, model.calibration, int8)
        ways[f"{package} float32"] = Way(float32)
        ways[f"{package} int8"] = Way(int8)
        if bf16 and package == "OpenVINO":
            ways["OpenVINO bf16"] = Way(float32, "bf16")
            ways["OpenVINO int8, the rest bf16"] = Way(int8, "bf16")
    return ways


if __name__ == "__main__":
    main()
