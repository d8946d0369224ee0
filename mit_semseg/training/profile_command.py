"""``mit-semseg model``: shows what the model of a config costs. Nothing slow is imported before `run`."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from ..runtime.arguments import LARGEST_COUNT, whole

if TYPE_CHECKING:
    from yacs.config import CfgNode

EPILOG = """\
The weights are random: nothing is downloaded, read or written.

FLOPs count one forward pass without the upsampling of the scores; a multiplication and an
addition count as two. score: an image at one scale, from pixels to labels. train: forward and
backward pass of a sub-batch, with TRAIN.amp, TRAIN.channels_last and TRAIN.freeze. Peak memory
is that of the tensors on a GPU, and of the whole process on the CPU.

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command, without those of the config."""
    parser.add_argument(
        "--size",
        nargs=2,
        type=whole(1, LARGEST_COUNT),
        metavar=("H", "W"),
        help="height and width of the images in pixels (default: an image of 4:3 at the middle short edge of "
        "DATASET.imgSizes; for train with DATASET.augment crop or photos, DATASET.crop_size)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--gpu", metavar="DEVICE", help="0, gpu1 or cpu (default: the first GPU, or the CPU without one)"
    )


def run(cfg: "CfgNode", args: argparse.Namespace) -> int:
    """Prints the figures of the config's model and returns the exit code. Raises: UserError for a mistake."""
    from ..runtime.devices import find_devices
    from ..runtime.machine import naming_lack_of_memory
    from .profile import as_text, profile

    device = find_devices(args.gpu)[0]
    with naming_lack_of_memory(device):
        figures = profile(cfg, device, tuple(args.size) if args.size else None)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if args.json else as_text(figures))
    return 0
