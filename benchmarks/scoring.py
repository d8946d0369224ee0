"""How fast is scoring? Labels of one image at five scales, and the plain method on the same network.

Plain: the network as it was trained. The scores of each scale are a full tensor, which is upsampled, goes
through softmax and is added up; argmax over all classes follows. "One image per thread" is how
eval_multipro.py scores a list on a CPU: as many images at the same time as there are threads. All ways run
in turns, so that other load on the machine affects all.

    python benchmarks/scoring.py > benchmarks/results/scoring.md
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import time

import torch
from torch import Tensor

from mit_semseg.data.resize import fit_size, round_up
from mit_semseg.inference.network import ScoringNetwork
from mit_semseg.inference.predict import predict_labels
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.runtime.threads import map_single_threaded

SHORT_EDGES = (300, 375, 450, 525, 600)
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="mobilenetv2dilated")
    parser.add_argument("--decoder", default="c1_deepsup")
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 683), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    height, width = args.size
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder(args.encoder, imagenet=False)
    decoder = ModelBuilder.build_decoder(
        args.decoder, channels=encoder.channels, num_class=args.classes, use_softmax=True
    )
    module = SegmentationModule(encoder, decoder, None).eval()
    images = []
    for short_edge in SHORT_EDGES:
        scaled = fit_size(width, height, short_edge, 1000)
        images.append(torch.randn(1, 3, round_up(scaled[1], 8), round_up(scaled[0], 8)))
    networks = {amp: ScoringNetwork.prepared(module, CPU, amp=amp) for amp in ("none", "bf16")}

    @torch.inference_mode()
    def plain() -> Tensor:
        scores = [module({"img_data": image}, segSize=(height, width))[0] for image in images]
        return torch.stack(scores).mean(0).argmax(0)

    def forward() -> None:
        with torch.inference_mode():
            for image in images:
                decoder.logits(encoder(image, return_feature_maps=True))

    threads = torch.get_num_threads()

    def side_by_side(amp: str) -> None:
        pieces = [(networks[amp], images, (height, width))] * threads
        list(map_single_threaded(predict_labels, pieces, threads=threads, depth=1))

    ways = {
        "plain": plain,
        "float32": lambda: predict_labels(networks["none"], images, (height, width)),
        "bf16": lambda: predict_labels(networks["bf16"], images, (height, width)),
        "float32, one image per thread": lambda: side_by_side("none"),
        "bf16, one image per thread": lambda: side_by_side("bf16"),
        "plain, network only": forward,
        "float32, network only": lambda: [networks["none"](image) for image in images],
        "bf16, network only": lambda: [networks["bf16"](image) for image in images],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:  # the first one warms up
                images_scored = threads if name.endswith("thread") else 1
                times[name].append((time.perf_counter() - start) / images_scored)
    different = int((ways["float32"]() != plain()).sum())
    write = sys.stdout.write
    write("# Scoring an image\n\n")
    write(f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}, ")
    write(f"{torch.get_num_threads()} threads; load average {os.getloadavg()[0]:.1f} at the end; ")
    write(f"torch {torch.__version__}, Python {platform.python_version()}; {datetime.date.today()}; ")
    write(f"{args.rounds} rounds. {args.encoder} + {args.decoder}, {args.classes} classes, ")
    write(f"{height} x {width} pixels, short edges {', '.join(map(str, SHORT_EDGES))}.\n")
    write(f"`python benchmarks/scoring.py {' '.join(sys.argv[1:])}`\n\n")
    write(
        "| | s per image, median | s, fastest | times as fast as plain, median over the rounds |\n"
        "|---|---|---|---|\n"
    )
    for name, taken in times.items():
        base = times["plain, network only" if name.endswith("only") else "plain"]
        ratio = statistics.median(a / b for a, b in zip(base, taken, strict=True))
        write(f"| {name} | {statistics.median(taken):.3f} | {min(taken):.3f} | {ratio:.2f} |\n")
    write(
        f"\nLabels of float32 that differ from plain: {different} of {height * width}. Weights are random, "
    )
    write("so many pixels are close to a tie.\n")


if __name__ == "__main__":
    main()
