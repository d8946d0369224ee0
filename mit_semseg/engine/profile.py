"""What a model costs: parameters, operations, memory, and images a second on this machine."""

import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from yacs.config import CfgNode

from .. import __version__
from ..data.geometry import fit_size, round_up
from ..distributed import Place
from ..inference import ScoringNetwork, Settings, predict_labels
from ..models import SegmentationModule
from ..models.builder import is_timm
from .machine import PeakMemory, device_name, wait
from .recipe import label_rate
from .setup import build_module, check_batch, check_model
from .training.normalize import Normalizer, criterion_of
from .training.precision import Precision, trains_wrongly
from .training.speed import choose_precision, freeze_parts
from .training.step import forward

_LEAST_S = 1.0  # of each measurement, in seconds
_LEAST_RUNS = 3


def profile(
    cfg: CfgNode, device: torch.device, size: tuple[int, int] | None = None, least_s: float = _LEAST_S
) -> dict[str, Any]:
    """The figures of a config's model, with random weights: nothing is read, downloaded or written.

    Scoring is what evaluation and prediction do with an image at one scale, from pixels to labels, without
    reading its file. Training is forward and backward of a sub-batch, in the number format and with the parts
    frozen that the config says, without the update; neither compiled nor with recomputed activations.

    Args:
        size: (height, width) of the images; left out, those of the config.
        least_s: how long each measurement goes on at least, in seconds.

    Returns: a tree of numbers and texts, as for JSON. Operations of a forward count a multiplication and an
        addition as two; memory is in bytes, None where this system does not tell it.
    Raises: UserError for a model that can't be built as configured.
    """
    check_model(cfg)
    check_batch(cfg, 1)
    scored = size or _scored_size(cfg)
    trained = size or (cfg.DATASET.crop_size if cfg.DATASET.augment == "crop" else scored)
    with torch.device("meta"):
        module = build_module(cfg, ("", ""), training=False, pretrained=False)
    encoder: Any = module.encoder
    flops = _operations(module, scored)
    return {
        "encoder": {
            "arch": cfg.MODEL.arch_encoder,
            "parameters": _parameters(module.encoder),
            "flops": flops[0],
            "strides": list(encoder.strides),
            "channels": list(encoder.channels),
        },
        "decoder": {
            "arch": cfg.MODEL.arch_decoder,
            "parameters": _parameters(module.decoder),
            "flops": flops[1],
            "stride": encoder.strides[module.decoder.output_map],
            "classes": cfg.DATASET.num_class,
        },
        "score": _score(cfg, device, scored, least_s),
        "train": _train(cfg, device, tuple(trained), least_s),
        "device": device_name(device),
        "versions": _versions(cfg),
    }


def as_text(figures: dict[str, Any]) -> str:
    """The figures as a table for people."""
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


def _scored_size(cfg: CfgNode) -> tuple[int, int]:
    """Height and width of an image of 4 x 3 at the middle one of the config's short edges."""
    data = cfg.DATASET
    short_edge = sorted(data.imgSizes)[len(data.imgSizes) // 2]
    width, height = fit_size(4 * short_edge, 3 * short_edge, short_edge, data.imgMaxSize)
    return round_up(height, data.padding_constant), round_up(width, data.padding_constant)


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _operations(module: SegmentationModule, size: tuple[int, int]) -> tuple[int, int]:
    """Of the encoder and of the decoder, for one image, without enlarging the scores."""
    encoder: Any = module.encoder
    decoder: Any = module.decoder
    with torch.device("meta"), torch.no_grad():
        with FlopCounterMode(display=False) as of_encoder:
            maps = encoder(torch.empty(1, 3, *size), return_feature_maps=True)
        with FlopCounterMode(display=False) as of_decoder:
            decoder.logits(maps)
    return of_encoder.get_total_flops(), of_decoder.get_total_flops()


def _score(cfg: CfgNode, device: torch.device, size: tuple[int, int], least_s: float) -> dict[str, Any]:
    module = build_module(cfg, ("", ""), training=False, pretrained=False)
    network = ScoringNetwork.prepared(module, device, amp=cfg.VAL.amp)
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    val = cfg.VAL
    settings = Settings(val.flip, val.tile, val.overlap)
    figures = _measured(lambda: predict_labels(network, [image], size, settings), device, 1, size, least_s)
    precision = Precision(device, cfg.VAL.amp, network.channels_last)
    return {"precision": str(precision), **figures}


def _train(cfg: CfgNode, device: torch.device, size: tuple[int, int], least_s: float) -> dict[str, Any]:
    module = build_module(cfg, ("", ""), training=True, pretrained=False).to(device).train()
    freeze_parts(module, cfg.TRAIN)
    precision = choose_precision(cfg.TRAIN, module, device)
    precision.channels_last &= not trains_wrongly(module, device, precision.amp)
    rate, batch = label_rate(cfg), cfg.TRAIN.batch_size_per_gpu
    # Of all classes, since what some losses cost depends on how many occur.
    labels = torch.arange(batch * math.prod(-(-side // rate) for side in size), device=device)
    labels = labels.remainder(cfg.DATASET.num_class).view(batch, *(-(-side // rate) for side in size))
    feed = {"img_data": torch.randn(batch, 3, *size, device=device), "seg_label": labels}
    normalizer = Normalizer(criterion_of(module), [labels], Place(0, 1, device))

    def run() -> None:
        module.zero_grad(set_to_none=True)
        loss, _ = forward(module, [feed], normalizer, precision)
        precision.backward(loss)

    return {"precision": str(precision), **_measured(run, device, batch, size, least_s)}


def _measured(
    run: Callable[[], object], device: torch.device, batch: int, size: tuple[int, int], least_s: float
) -> dict[str, Any]:
    """Median duration of a run, after a first one that counts for nothing but memory."""
    memory = PeakMemory(device)
    run()
    durations: list[float] = []
    while len(durations) < _LEAST_RUNS or sum(durations) < least_s:
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
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


def _versions(cfg: CfgNode) -> dict[str, str]:
    versions = {"mit-semseg": __version__, "PyTorch": torch.__version__}
    if is_timm(cfg.MODEL.arch_encoder):
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
    """With three significant digits: 26824.7 as 26,800."""
    return f"{float(f'{number:.3g}'):,.10g}"
