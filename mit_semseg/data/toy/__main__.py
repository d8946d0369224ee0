"""``python -m mit_semseg.data.toy FOLDER``: write the rendered dataset."""

import argparse
import sys
from collections.abc import Sequence

from ...errors import UserError
from . import dataset


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} up")
    return int(text)


def _count(text: str) -> int:
    return _at_least(1, text)


def _seed(text: str) -> int:
    return _at_least(0, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write the dataset; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mit_semseg.data.toy",
        description="Render small street scenes and landscapes with their labels: images, annotations, "
        "training.odgt, validation.odgt and classes.csv. The same seed gives the same files.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", help="where to write; made if it does not exist")
    parser.add_argument(
        "--train", type=_count, default=dataset.NUM_TRAIN, metavar="N", help="training scenes"
    )
    parser.add_argument("--val", type=_count, default=dataset.NUM_VAL, metavar="N", help="validation scenes")
    parser.add_argument(
        "--seed", type=_seed, default=dataset.SEED, metavar="S", help="what the scenes are drawn from"
    )
    args = parser.parse_args(argv)
    try:
        dataset.write_dataset(args.folder, args.train, args.val, args.seed, progress=True)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        f"{args.folder}: {args.train} training and {args.val} validation scenes, seed {args.seed}.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
