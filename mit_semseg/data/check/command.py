"""``mit-semseg data check``: its arguments, and what they come to.

Here, and nowhere else in the package, the config is known. Nothing heavy is imported before it is needed, so
that ``--help`` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cores import count_cores
from ...errors import UserError

if TYPE_CHECKING:
    from .places import Places, Source

_EPILOG = """\
exit code: 0 if all is well or there are only notes, 1 if there are problems, 2 for a mistake in the call.

A list holds one JSON object a line: fpath_img, fpath_segm, width, height. Each file is read once; a file that
takes the decoder down, or more than two minutes, is reported as such.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``mit-semseg data check`` to a parser."""
    parser.description = (
        "Read every image and label of some lists and report all problems, with the fix for each."
    )
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "lists", nargs="*", metavar="LIST", help="an .odgt file; left out: both of the config"
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="what paths are relative to (default: the config's, else the list's folder)",
    )
    parser.add_argument(
        "--cfg", metavar="FILE", help="a config: lists, root, classes, label values are taken from it"
    )
    parser.add_argument(
        "--num-class", type=_whole(1), metavar="N", help="number of classes (default: the highest value's)"
    )
    parser.add_argument(
        "--label-offset", type=_whole(0), metavar="V", help="the value of the first class (default: 1)"
    )
    parser.add_argument(
        "--ignore-label",
        type=_whole(-1),
        metavar="V",
        help="one more value that is unlabelled (default: -1, none)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the report there as well, with all files in it")
    parser.add_argument(
        "--workers",
        type=_whole(0),
        metavar="N",
        help="processes (default: one a CPU; 0: this one, unguarded)",
    )


def run(args: argparse.Namespace) -> int:
    """Checks, prints the report and returns the exit code: 1 if there are problems, else 0.

    Raises: UserError for a mistake in the call: lists that cannot be read, a config that cannot be used.
    """
    dataset = _config(args.cfg)
    lists = _lists(args.lists, dataset)
    _check_folder(args.json)

    from tqdm import tqdm

    from ..labels import LabelCoding
    from .as_json import write_json
    from .examine import examine
    from .places import Places
    from .pool import run_guarded
    from .report import report
    from .summary import summarize
    from .tally import NUM_VALUES, Tally

    num_class = _first(args.num_class, dataset.get("num_class"))
    ignore = _first(args.ignore_label, dataset.get("ignore_label"), -1)
    offset = _first(args.label_offset, dataset.get("label_offset"), 1)
    if offset + (num_class or 1) > NUM_VALUES:
        raise UserError(f"{num_class} classes from the value {offset} up do not fit into 16-bit labels.")
    names = _class_names(dataset, num_class)
    unusable = Places()
    sources = [
        _source(number, path, role, args.root, dataset, unusable) for number, (path, role) in enumerate(lists)
    ]
    tally = Tally(sources, LabelCoding(num_class, offset, ignore if ignore >= 0 else None), unusable)
    found = run_guarded(examine, tally.jobs(), workers=_workers(args.workers))
    total = sum(len(source.records) for source in sources)
    for position, finding in tqdm(
        found, total=total, unit=" pairs", desc="Reading", disable=None, smoothing=0.1
    ):
        tally.add(position, finding)
    tally.find_duplicates()
    summary = summarize(tally, names, same_list=len(args.lists) == 0 and len(lists) == 1)
    if args.json:
        write_json(summary, args.json)
    sys.stdout.write(report(summary))
    if args.json:
        sys.stdout.write(f"The complete report is in {args.json}.\n")
    return 1 if summary.problems else 0


def _config(path: str | None) -> dict[str, Any]:
    """The DATASET section of a config, empty without one."""
    if path is None:
        return {}
    from ...config import load_config

    return load_config(path).DATASET


def _lists(given: list[str], dataset: dict[str, Any]) -> list[tuple[str, str]]:
    """The lists to check and their roles, each file once."""
    roles = {"list_train": "training", "list_val": "validation"}
    named = [(dataset[key], role) for key, role in roles.items() if key in dataset]
    if given:
        by_file = {os.path.realpath(path): role for path, role in named}
        named = [(path, by_file.get(os.path.realpath(path), "")) for path in given]
    if not named:
        raise UserError("Name a list to check, such as data/training.odgt, or a config with --cfg.")
    first: dict[str, tuple[str, str]] = {}
    for path, role in named:
        first.setdefault(os.path.realpath(path), (path, role))
    return list(first.values())


def _check_folder(path: str | None) -> None:
    """Refuses a place that cannot be written before, and not after, hours of reading."""
    if path and (Path(path).is_dir() or not os.access(Path(path).absolute().parent, os.W_OK)):
        what = "is a folder" if Path(path).is_dir() else "stands in no folder that can be written"
        raise UserError(f"--json {path} {what}. Name a file in a folder that exists.")


def _class_names(dataset: dict[str, Any], num_class: int | None) -> tuple[str, ...]:
    if num_class is None:
        return ()
    from ..classes import load_classes

    own = num_class == dataset.get("num_class", num_class)  # the config's names are of its own classes
    return load_classes(dataset.get("classes", "") if own else "", num_class).names


def _source(
    number: int,
    path: str,
    role: str,
    root: str | None,
    dataset: dict[str, Any],
    unusable: "Places",
) -> "Source":
    from ..records import read_records
    from .places import LINE, Source

    sizes = ("width", "height")
    records = read_records(
        path,
        required=("fpath_img", "fpath_segm", *(sizes if role == "training" else ())),
        optional=() if role == "training" else sizes,
        inside_root=True,
        on_unusable=lambda line, what: unusable.add(number, line, LINE, what),
    )
    folder = _first(root, dataset.get("root_dataset"), str(Path(path).parent))
    return Source(path, folder, records, role)


def _workers(wanted: int | None) -> int:
    return count_cores() if wanted is None else wanted


def _first(*values: Any) -> Any:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


def _whole(least: int) -> Callable[[str], int]:
    """A reader of whole numbers from ``least`` up, for argparse."""

    def read(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} up")
        return int(text)

    return read
