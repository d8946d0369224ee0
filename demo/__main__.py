"""``python -m demo FOLDER`` writes the rendered dataset."""

import argparse
import sys
from collections.abc import Sequence

from mit_semseg.errors import UserError
from mit_semseg.runtime.paths import argument

from . import dataset


def _integer(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of {least} or more")
    return int(text)


def _count(text: str) -> int:
    return _integer(1, text)


def _seed(text: str) -> int:
    return _integer(0, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, write the dataset and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Render small street scenes and landscapes with their labels: images, annotations, "
        "training.odgt, validation.odgt and classes.csv. The same seed gives the same files.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "folder", type=argument("FOLDER"), help="folder to write; created if it does not exist"
    )
    parser.add_argument(
        "--train", type=_count, default=dataset.NUM_TRAIN, metavar="N", help="number of training scenes"
    )
    parser.add_argument(
        "--val", type=_count, default=dataset.NUM_VAL, metavar="N", help="number of validation scenes"
    )
    parser.add_argument("--seed", type=_seed, default=dataset.SEED, metavar="S", help="seed of the scenes")
    try:
        args = parser.parse_args(argv)
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
