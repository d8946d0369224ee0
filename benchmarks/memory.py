"""How much memory does scoring a large image take? The peak of this process, with and without the image.

    python benchmarks/memory.py 20000 20000
    python benchmarks/memory.py 2160 4096 --scales 0.5 0.75 1 1.25 1.5

MobileNetV2dilated + C1, 150 classes, on the CPU; the image holds random bytes.
"""

import argparse
import resource
import sys
import time

import torch

from mit_semseg.inference.network import ScoringNetwork
from mit_semseg.inference.predict import predict_labels
from mit_semseg.models import ModelBuilder, SegmentationModule

CLASSES = 150


def peak() -> float:
    """Most memory so far, in GB of 2^30 bytes (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("height", type=int)
    parser.add_argument("width", type=int)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="factors of the image's size")
    parser.add_argument("--amp", choices=["none", "bf16"], default="bf16")
    args = parser.parse_args()
    size = (args.height, args.width)
    encoder = ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)
    decoder = ModelBuilder.build_decoder("c1", channels=encoder.channels, num_class=CLASSES)
    module = SegmentationModule(encoder, decoder, None).eval()
    network = ScoringNetwork.prepared(module, torch.device("cpu"), amp=args.amp)
    predict_labels(network, [torch.zeros(1, 3, 256, 256)], (64, 64))
    sys.stdout.write(f"model: {peak():.2f} GB\n")
    sides = [[round(side * scale) for side in size] for scale in args.scales]
    images = [torch.randint(0, 256, (1, 3, *each), dtype=torch.uint8) for each in sides]
    sys.stdout.write(f"with the image: {peak():.2f} GB\n")
    start = time.perf_counter()
    labels = predict_labels(network, images, size)
    seconds = time.perf_counter() - start
    sys.stdout.write(f"{tuple(labels.shape)} {labels.dtype}: {peak():.2f} GB, {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
