"""``mit-semseg card``: writes the model card of a run."""

import argparse
import re
import sys
from pathlib import Path

from ..errors import UserError
from ..runtime.paths import argument

_EPILOG = """\
The card holds the data, the recipe, the scores for each class, and the limits that were measured. It uses the
evaluations of these very weights in DIR/result and other subfolders of DIR. For all limits, evaluate with
  VAL.visualize True      how well objects of each size are found
  VAL.calibration True    how far probabilities can be trusted
and again at other sizes: DATASET.imgSizes 300 VAL.result DIR/result_300
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add_card_arguments(parser)
    parser.add_argument("--force", action="store_true", help="replace a README.md that was written by hand")


def add_card_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments that ``card`` and ``push`` share."""
    parser.add_argument("folder", type=argument("DIR"), metavar="DIR", help="the folder of a run")
    parser.add_argument(
        "--checkpoint",
        default="",
        metavar="NAME",
        help="the end of the checkpoint's name, as epoch_20.pth (default: best.pth, or the newest epoch)",
    )
    parser.add_argument("--name", default="", help="the name of the model (default: that of the folder)")
    parser.add_argument(
        "--license", default="", metavar="ID", help="such as apache-2.0 (default: not stated)"
    )
    parser.add_argument(
        "--dataset", action="append", default=[], metavar="ID", help="a dataset's name on the hub; repeatable"
    )


def check_names(args: argparse.Namespace) -> None:
    """Refuse identifiers that a hub would refuse. Raises: UserError."""
    if args.license and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", args.license):
        raise UserError(
            f"--license is {args.license!r}, but hubs take identifiers such as apache-2.0, mit or other."
        )
    for name in args.dataset:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            raise UserError(f"--dataset is {name!r}, but hubs take NAME or OWNER/NAME.")


def run(args: argparse.Namespace) -> int:
    """Writes the card and returns the exit code.

    Raises: UserError for anything that the user has to fix.
    """
    from .card import write_card
    from .trained import find_trained

    check_names(args)
    trained = find_trained(Path(args.folder), args.checkpoint)
    path = write_card(
        trained, name=args.name, license_id=args.license, datasets=args.dataset, force=args.force
    )
    if not trained.evaluations:
        sys.stderr.write(
            f"{trained.folder} has no evaluation of {trained.checkpoint}, so the card has no scores. Run "
            f"mit-semseg eval with VAL.checkpoint {trained.checkpoint}, then this command again.\n"
        )
    sys.stdout.write(f"Card: {path}\n")
    return 0
