"""``mit-semseg demo``: the first picture, from a photo and weights that come with the package."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from ..runtime.files import check_writable
from ..runtime.paths import argument

_MODEL = "camvid-efficientnet_lite0-upernet"
_PHOTO = "street.jpg"
_LISTED = 6  # classes
_NEXT = f"""
Next:
  your photo      mit-semseg test --imgs PHOTO.jpg --cfg {_MODEL} TEST.output overlay
  in the browser  mit-semseg serve
  in Python       from mit_semseg import Segmenter; Segmenter.load("{_MODEL}")("PHOTO.jpg").shares
  your classes    mit-semseg data prepare --help, then mit-semseg train --help
  all settings    mit-semseg config
The model knows the 11 classes of street scenes only.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "--result",
        type=argument("--result"),
        default="mit-semseg-demo",
        metavar="FOLDER",
        help="folder to write to; created if it does not exist (default: mit-semseg-demo)",
    )


def run(args: argparse.Namespace) -> int:
    """Segments the photo, prints the shares of the classes and what to try next, and returns the exit code.

    Raises: UserError if the folder cannot be written into, or timm is missing.
    """
    start = time.perf_counter()
    folder = Path(args.result)
    check_writable(folder, "--result")
    from ..inference.segmenter import Segmenter
    from ..runtime.log import setup_logger
    from ..runtime.resources import find

    setup_logger(distributed_rank=1)  # errors only
    segmentation = Segmenter.load(_MODEL, device="cpu")(find(_PHOTO, folder="data"))
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(find(_PHOTO, folder="data"), folder / _PHOTO)
    for kind in ("side_by_side", "overlay"):
        segmentation.save(folder / f"street_{kind}.png", kind, legend=True)
    for name, share in list(segmentation.shares.items())[:_LISTED]:
        sys.stdout.write(f"{share:7.1%}  {name}\n")
    seconds = time.perf_counter() - start
    sys.stdout.write(f"\n{folder / 'street_overlay.png'}, after {seconds:.1f} s\n{_NEXT}")
    return 0
