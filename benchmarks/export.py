"""How fast are exported models? PyTorch as test.py uses it, onnxruntime and OpenVINO, with labels compared.

All ways compute the scores of one image with all cores, from 8-bit pixels to logits at the network's stride.
They run in turns, so that other load on the machine affects all. The released model has its weights, and is
calibrated with images of CamVid. The other two have random weights and are calibrated with noise, because
only their speed is of interest.

    python benchmarks/export.py data/camvid > benchmarks/results/export.md
"""

import argparse
import datetime
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
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
Way = Callable[[], torch.Tensor]


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
    out(f"{args.rounds} rounds, in which all ways run in turns. Times are medians; 'times as fast' is the ")
    out("median of the ratios to\nPyTorch in float32 in each round. Processor time is the sum over all ")
    out("threads, which other programs on the machine affect\nleast. Other labels: positions of the score ")
    out("map whose class is not that of PyTorch in float32.\n")
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


def report(model: Model, ways: dict[str, Callable[[], torch.Tensor]], rounds: int) -> None:
    """Measure all ways and write their table."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    labels: dict[str, NDArray[np.int64]] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start, start_busy = time.perf_counter(), time.process_time()
            scores = way()
            if number:  # the first one warms up
                times[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - start_busy)
            labels[name] = scores.argmax(-1).numpy()
    out = sys.stdout.write
    out(f"\n## {model.title}\n\n| | ms | fastest | times as fast | processor ms | times as fast ")
    out("| other labels |\n")
    out("|---|---|---|---|---|---|---|\n")
    first = next(iter(ways))
    for name, taken in times.items():
        other = (labels[name] != labels[first]).mean()
        out(f"| {name} | {1000 * statistics.median(taken):.0f} | {1000 * min(taken):.0f} ")
        out(f"| {_ratio(times[first], taken):.2f} | {1000 * statistics.median(busy[name]):.0f} ")
        out(f"| {_ratio(busy[first], busy[name]):.2f} | {100 * other:.2f} % |\n")
    sys.stdout.flush()


def _ratio(base: list[float], taken: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(base, taken, strict=True))


def ways_of(model: Model, folder: Path) -> dict[str, Way]:
    """Functions that score the image of a model, by name; PyTorch in float32 is the first."""
    first = ScoringNetwork.prepared(model.module, CPU)
    networks: dict[str, ScoringNetwork | ExportedNetwork] = {"PyTorch float32": first}
    if fastest_amp(CPU) == "bf16":  # others compute it more slowly than float32
        networks["PyTorch bf16"] = ScoringNetwork.prepared(model.module, CPU, amp="bf16")
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
        networks[f"{package} float32"] = ExportedNetwork(float32)
        networks[f"{package} int8"] = ExportedNetwork(int8)
        if bf16 and package == "OpenVINO":
            networks["OpenVINO bf16"] = ExportedNetwork(float32, amp="bf16")
            networks["OpenVINO int8, the rest bf16"] = ExportedNetwork(int8, amp="bf16")
    return {name: partial(network, model.image) for name, network in networks.items()}


if __name__ == "__main__":
    main()
