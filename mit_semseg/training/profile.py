"""The costs of a model: parameters, FLOPs, memory, and images per second on this machine."""

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from yacs.config import CfgNode

from .. import __version__
from ..data.bands import RGB
from ..data.resize import scored_sizes
from ..inference import ScoringNetwork
from ..inference.load import load_network, scoring_settings
from ..inference.network import input_channels
from ..inference.predict import Settings, predict_labels
from ..models import ModelSpec, SegmentationModule
from ..models.builder import is_timm
from ..models.decoders.base import score_stride
from ..runtime.distributed import ProcessInfo
from ..runtime.machine import PeakMemory, device_name, synchronize
from .checks import check_batch, check_recipe
from .options import TrainOptions, train_options
from .precision import Precision, trains_wrongly
from .setup import build_module, freeze_parts
from .speed import choose_precision
from .step import Normalizer, criterion_of, forward

_LEAST_S = 1.0  # shortest time of each measurement, in seconds
_LEAST_RUNS = 3


def profile(
    cfg: CfgNode, device: torch.device, size: tuple[int, int] | None = None, least_s: float = _LEAST_S
) -> dict[str, Any]:
    """Measure a config's model with random weights: nothing is read, downloaded or written.

    Scoring runs an image at one scale from pixels to labels, like evaluation and prediction, but reads no
    file. Training runs forward and backward passes of a sub-batch, with the number format and the frozen
    parts of the config. It makes no updates, is not compiled, and does not recompute activations.

    Args:
        size: (height, width) of the images; by default those of the config.
        least_s: shortest time of each measurement, in seconds.

    Returns: a tree of numbers and strings that JSON can hold. FLOPs are those of a forward pass, where a
        multiplication and an addition count as two. Memory is in bytes, or None if the system does not
        report it.
    Raises: UserError for a model that can't be built as configured.
    """
    options = train_options(cfg)
    model, data = options.module.model, options.data
    model.check()
    check_recipe(options)
    check_batch(options, 1)
    scored = size or _scored_size(data.imgSizes, data.imgMaxSize, data.padding_constant)
    trained = size or (data.crop_size if data.augment in ("crop", "photos") else scored)
    with torch.device("meta"):
        module = build_module(options.module).eval()  # BatchNorm trains on more than one value only
    encoder: Any = module.encoder
    flops = _operations(module, scored)
    return {
        "encoder": {
            "arch": model.arch_encoder,
            "parameters": _parameters(module.encoder),
            "flops": flops[0],
            "strides": list(encoder.strides),
            "channels": list(encoder.channels),
        },
        "decoder": {
            "arch": model.arch_decoder,
            "parameters": _parameters(module.decoder),
            "flops": flops[1],
            "stride": score_stride(module.decoder, encoder.strides),
            "classes": model.num_class,
        },
        "score": _score(model, scoring_settings(cfg), device, scored, least_s),
        "train": _train(options, device, tuple(trained), least_s),
        "device": device_name(device),
        "versions": _versions(model.arch_encoder),
    }


def as_text(figures: dict[str, Any]) -> str:
    """The result of `profile` as a table for people."""
    encoder, decoder = figures["encoder"], figures["decoder"]
    parts = [(part["arch"], part["parameters"], part["flops"]) for part in (encoder, decoder)]
    parts.append(("", sum(row[1] for row in parts), sum(row[2] for row in parts)))
    height, width = figures["score"]["size"]
    wide = max(24, *(len(name) for name, _, _ in parts))
    lines = [f"{'':10}{'':{wide}}  {'parameters':>12}  {f'FLOPs at {height} x {width}':>22}"]
    for title, (name, parameters, flops) in zip(("encoder", "decoder", "both"), parts, strict=True):
        lines.append(f"{title:10}{name:{wide}}  {_short(parameters):>12}  {_short(flops):>22}")
    strides, channels = ([f"{value:>6}" for value in encoder[key]] for key in ("strides", "channels"))
    lines += [
        "",
        f"{'maps':10}{'stride':8}{''.join(strides)}",
        f"{'':10}{'channels':8}{''.join(channels)}",
        f"{'scores':10}{'stride':8}{decoder['stride']:>6}",
        f"{'':10}{'classes':8}{decoder['classes']:>6}",
        "",
        f"{'':10}{'images':{wide}}  {'images/s':>12}  {'ms':>8}  {'peak memory':>12}  computed in",
    ]
    for title in ("score", "train"):
        row = figures[title]
        images = " x ".join(map(str, (row["batch"], *row["size"])))
        memory = "-" if row["peak_memory"] is None else f"{row['peak_memory'] / 2**20:,.0f} MiB"
        rate, ms = _three(row["images_per_second"]), _three(1000 * row["seconds"])
        lines.append(f"{title:10}{images:{wide}}  {rate:>12}  {ms:>8}  {memory:>12}  {row['precision']}")
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    lines += ["", f"on {figures['device']}; {versions}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _scored_size(short_edges: Sequence[int], max_long_edge: int, multiple: int) -> tuple[int, int]:
    """Height and width of a 4:3 image at the middle one of the short edges."""
    short_edge = sorted(short_edges)[len(short_edges) // 2]
    ((width, height),) = scored_sizes(4 * short_edge, 3 * short_edge, [short_edge], max_long_edge, multiple)
    return height, width


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _operations(module: SegmentationModule, size: tuple[int, int]) -> tuple[int, int]:
    """FLOPs of the encoder and of the decoder for one image, without the upsampling of the scores."""
    encoder: Any = module.encoder
    decoder: Any = module.decoder
    with torch.device("meta"), torch.no_grad():
        with FlopCounterMode(display=False) as of_encoder:
            encoder(torch.empty(1, input_channels(encoder), *size), return_feature_maps=True)
        with FlopCounterMode(display=False) as of_both:
            decoder.logits(decoder.features(encoder, torch.empty(1, input_channels(encoder), *size)))
    flops = of_encoder.get_total_flops()
    return flops, of_both.get_total_flops() - flops


def _score(
    model: ModelSpec, settings: Settings, device: torch.device, size: tuple[int, int], least_s: float
) -> dict[str, Any]:
    network = load_network(model, ("", ""), device, settings.amp)
    image = torch.randint(0, 256, (1, model.in_channels, *size), dtype=torch.uint8)
    if model.in_channels != RGB:
        image = image / 255
    figures = _measured(lambda: predict_labels(network, [image], size, settings), device, 1, size, least_s)
    channels_last = isinstance(network, ScoringNetwork) and network.channels_last
    precision = Precision(device, settings.amp, channels_last)
    return {"precision": str(precision), **figures}


def _train(
    options: TrainOptions, device: torch.device, size: tuple[int, int], least_s: float
) -> dict[str, Any]:
    module = build_module(options.module).to(device).train()
    freeze_parts(module, options.module)
    precision = choose_precision(options.speed, module, device)
    precision.channels_last &= not trains_wrongly(module, device, precision.amp)
    rate, batch = options.module.label_stride, options.run.batch_size_per_gpu
    # Labels of all classes, because the cost of some losses depends on how many classes occur.
    labels = torch.arange(batch * math.prod(-(-side // rate) for side in size), device=device)
    labels = labels.remainder(options.module.model.num_class).view(
        batch, *(-(-side // rate) for side in size)
    )
    feed = {
        "img_data": torch.randn(batch, options.module.model.in_channels, *size, device=device),
        "seg_label": labels,
    }
    normalizer = Normalizer(criterion_of(module), [labels], ProcessInfo(0, 1, device))

    def run() -> None:
        module.zero_grad(set_to_none=True)
        loss, _ = forward(module, [feed], normalizer, precision)
        precision.backward(loss)

    return {"precision": str(precision), **_measured(run, device, batch, size, least_s)}


def _measured(
    run: Callable[[], object], device: torch.device, batch: int, size: tuple[int, int], least_s: float
) -> dict[str, Any]:
    """The median duration of a run, and the peak memory. The first run counts for memory only."""
    memory = PeakMemory(device)
    run()
    durations: list[float] = []
    while len(durations) < _LEAST_RUNS or sum(durations) < least_s:
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        durations.append(time.perf_counter() - start)
    seconds = statistics.median(durations)
    return {
        "batch": batch,
        "size": list(size),
        "seconds": seconds,
        "images_per_second": batch / seconds,
        "runs": len(durations),
        "peak_memory": memory.peak(),
    }


def _versions(arch_encoder: str) -> dict[str, str]:
    versions = {"mit-semseg": __version__, "PyTorch": torch.__version__}
    if is_timm(arch_encoder):
        import timm

        versions["timm"] = timm.__version__
    return {**versions, "Python": ".".join(map(str, sys.version_info[:3]))}


def _short(number: int) -> str:
    """4 321 000 as 4.32 M."""
    for factor, sign in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= factor:
            return f"{_three(number / factor)} {sign}"
    return str(number)


def _three(number: float) -> str:
    """A number with three significant digits: 26824.7 as 26,800."""
    return f"{float(f'{number:.3g}'):,.10g}"
