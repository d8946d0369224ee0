"""The command line of ``mit-semseg data check``: it reads the arguments and the config, and runs the check.

Nothing slow is imported before it is needed, so that ``--help`` answers at once.
"""

import argparse
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...runtime.arguments import whole
from ...runtime.machine import cpu_count
from ...runtime.paths import argument

if TYPE_CHECKING:
    from .findings import CheckedList, Findings

_EPILOG = """\
exit code: 0 without problems (notes do not count), 1 with problems, 2 for a mistake in the command.

A list holds one JSON object per line: fpath_img, fpath_segm, width, height, and for a window of a scene left
and top. Each file is read once, and of scenes only the tiles of the windows. A file that kills the process
that reads it, or takes it more than two minutes, is reported too.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``mit-semseg data check`` to a parser."""
    parser.description = "Read every image and label of the lists and report all problems, each with its fix."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "lists",
        nargs="*",
        type=argument("LIST"),
        metavar="LIST",
        help="an .odgt file (default: both lists of the config)",
    )
    parser.add_argument(
        "--root",
        type=argument("--root"),
        metavar="DIR",
        help="folder or address of the files (default: the config's, or else the list's folder)",
    )
    parser.add_argument(
        "--cfg",
        action="append",
        metavar="FILE",
        help="a config that gives lists, root, classes, bands and label values; of several, later ones win",
    )
    parser.add_argument(
        "--num-class",
        type=whole(1),
        metavar="N",
        help="number of classes (default: inferred from the highest value)",
    )
    parser.add_argument(
        "--label-offset", type=whole(0), metavar="V", help="value of the first class (default: 1)"
    )
    parser.add_argument(
        "--ignore-label",
        type=whole(-1),
        metavar="V",
        help="one more unlabelled value (default: -1, none)",
    )
    parser.add_argument(
        "--json",
        type=argument("--json"),
        metavar="FILE",
        help="also write the complete report to FILE, with every place of a problem",
    )
    parser.add_argument(
        "--workers",
        type=whole(0),
        metavar="N",
        help="number of processes (default: one a CPU); 0: only this one, which a bad file may kill",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the check, prints the report and returns the exit code: 1 if there are problems, else 0.

    Raises: UserError for a list that cannot be read or a config that cannot be used.
    """
    dataset = _config(args.cfg)
    lists = _lists(args.lists, dataset)
    _check_folder(args.json)

    from tqdm import tqdm

    from ...data.bands import BandSelection
    from ...data.label_coding import LabelCoding
    from ..pool import run_guarded
    from .examine import examine
    from .findings import Findings
    from .report import report, write_json
    from .summary import summarize
    from .tally import NUM_VALUES, DatasetTally

    num_class = _first(args.num_class, dataset.get("num_class"))
    ignore = _first(args.ignore_label, dataset.get("ignore_label"), -1)
    offset = _first(args.label_offset, dataset.get("label_offset"), 1)
    if offset + (num_class or 1) > NUM_VALUES:
        raise UserError(f"{num_class} classes from value {offset} up do not fit into 16-bit labels.")
    names = _class_names(dataset, num_class)
    unusable = Findings()
    checked = [
        _read_list(number, path, role, args.root, dataset, unusable)
        for number, (path, role) in enumerate(lists)
    ]
    coding = LabelCoding(num_class, offset, ignore if ignore >= 0 else None)
    selection = BandSelection.of(dataset) if dataset else None
    tally = DatasetTally(checked, coding, unusable, with_bands=selection is not None)
    look = partial(examine, selection=selection)
    workers = cpu_count() if args.workers is None else args.workers
    total = sum(len(each.records) for each in checked)
    with (
        closing(run_guarded(look, tally.pairs(), workers=workers)) as found,
        tqdm(found, "reading", total, unit="pair", disable=None, smoothing=0.1) as bar,
    ):
        for position, facts in bar:
            tally.add(position, facts)
    tally.find_duplicates()
    summary = summarize(tally, names, same_list=len(args.lists) == 0 and len(lists) == 1)
    if args.json:
        write_json(summary, args.json)
    sys.stdout.write(report(summary))
    if args.json:
        sys.stdout.write(f"The complete report is in {args.json}.\n")
    return 1 if summary.problems else 0


def _config(paths: list[str] | None) -> dict[str, Any]:
    """The DATASET section of a config; empty without a config."""
    if not paths:
        return {}
    from ...config import load_config

    return load_config(paths).DATASET


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
    """Refuses a file that cannot be written before hours of reading, not after them."""
    if path and (Path(path).is_dir() or not os.access(Path(path).absolute().parent, os.W_OK)):
        what = "is a folder" if Path(path).is_dir() else "is not in a folder that can be written"
        raise UserError(f"--json {path} {what}. Name a file in a folder that exists.")
    if path and Path(path).exists() and Path(path).suffix.lower() != ".json":
        raise UserError(
            f"--json {path} exists, and may be an input. Name a new file, or one that ends with .json."
        )


def _class_names(dataset: dict[str, Any], num_class: int | None) -> tuple[str, ...]:
    if num_class is None:
        return ()
    from ...data.classes import load_classes

    own = num_class == dataset.get("num_class", num_class)  # the config's names are those of its own classes
    return load_classes(dataset.get("classes", "") if own else "", num_class).names


def _read_list(
    number: int,
    path: str,
    role: str,
    root: str | None,
    dataset: dict[str, Any],
    unusable: "Findings",
) -> "CheckedList":
    from ...data.file_cache import FileCache
    from ...data.records import read_records
    from .findings import LINE, CheckedList

    sizes = ("width", "height")
    records = read_records(
        path,
        required=("fpath_img", "fpath_segm", *(sizes if role == "training" else ())),
        optional=() if role == "training" else sizes,
        inside_root=True,
        on_unusable=lambda line, what: unusable.add(number, line, LINE, what),
    )
    if records.has_windows():
        from ...data.scenes import INSTALL
        from ...runtime.packages import require

        require("rasterio", f"{path}, which names windows of scenes,", INSTALL)
    folder = _first(root, dataset.get("root_dataset"), str(Path(path).parent))
    return CheckedList(path, folder, records, role, FileCache.of(dataset or None))


def _first(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)
