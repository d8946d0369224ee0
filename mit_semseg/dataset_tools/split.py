"""``mit-semseg data split``: folds for cross-validation by groups of images, such as the drives of a dataset.

Nothing slow is imported before the arguments are read, so that ``--help`` answers at once.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..runtime.arguments import whole
from ..runtime.files import replacing
from ..runtime.paths import argument
from .prepare.source import some

if TYPE_CHECKING:
    from ..data.records import Record

_EPILOG = """\
PATTERN is a regular expression. It is searched in the path of each image, as the list has it. The text of its
group, or the whole match if it has no group, names the sequence, site or patient that the image belongs to:
  --by '([^/]+)_f?[0-9]+\\.'      0006R0_f00930.jpg belongs to 0006R0
  --by 'patient([0-9]+)/'        scans/patient07/12.png belongs to 07

Each fold is a folder with training.odgt, validation.odgt and config.yaml:
  python train.py --cfg RECIPE.yaml --cfg mine/config.yaml --cfg folds/fold_1/config.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Write K folds for cross-validation. All images of a sequence, site or patient are in one fold, so\n"
        "no fold validates on images of a group that it trains on."
    )
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("lists", nargs="*", type=argument("LIST"), metavar="LIST",
        help="the .odgt files whose images are divided (default: both lists of the config)")  # fmt: skip
    add(
        "--by", required=True, type=_pattern, metavar="PATTERN", help="what names an image's group, see below"
    )
    add("--out", required=True, type=argument("--out"), metavar="FOLDER",
        help="folder to write to; created if it does not exist")  # fmt: skip
    add("--folds", type=whole(2), metavar="K",
        help="number of folds, of similar size (default: one for each group)")  # fmt: skip
    add("--cfg", metavar="FILE", help="a config whose lists are divided")


def run(args: argparse.Namespace) -> int:
    """Writes the folds, reports them on standard output and returns the exit code.

    Raises: UserError for anything that the user has to fix.
    """
    lists = args.lists
    if args.cfg and not lists:
        from ..config import load_config

        dataset = load_config(args.cfg).DATASET
        lists = list(dict.fromkeys((dataset.list_train, dataset.list_val)))
    if not lists:
        raise UserError("Name a list to divide, such as data/training.odgt, or a config with --cfg.")
    for line in split(lists, args.by, args.out, folds=args.folds):
        sys.stdout.write(f"{line}\n")
    return 0


@dataclass(frozen=True)
class _Line:
    """One line of a list."""

    text: bytes
    group: str


def split(lists: Sequence[str], by: re.Pattern[str], out: str, *, folds: int | None = None) -> list[str]:
    """Write ``out/fold_1``, ``out/fold_2``, ...: each with two lists and a config that names them.

    Fold k validates on the images of some groups and trains on those of all others. The largest group goes to
    the smallest fold, and so on, so folds are of similar size. The lines of the lists are copied as they are.

    Args:
        by: its group, or its whole match, names the group of an image; see the command's help.
        folds: number of folds; None for one for each group.

    Returns: a report for the user, line by line.
    Raises: UserError if a list cannot be used, if the pattern does not match all images, or if there are
        fewer groups than folds. Nothing is written then.
    """
    lines = _grouped(lists, by)
    sizes = Counter(line.group for line in lines)
    if len(sizes) < 2:
        raise UserError(
            f"All {len(lines)} images belong to the group {next(iter(sizes))!r}, so none is left to train "
            "on. Choose another pattern for --by."
        )
    if folds is not None and folds > len(sizes):
        raise UserError(
            f"--folds is {folds}, but --by '{by.pattern}' finds {len(sizes)} groups: {some(sorted(sizes))}."
        )
    members = _balanced(sizes, folds or len(sizes))
    folder = Path(out).absolute()
    names = [f"fold_{number}" for number in range(1, len(members) + 1)]
    width = max(map(len, names))
    report = [f"{folder}: {len(members)} folds of {len(lines)} images in {len(sizes)} groups."]
    for name, groups in zip(names, members, strict=True):
        parts = {
            "training": [line.text for line in lines if line.group not in groups],
            "validation": [line.text for line in lines if line.group in groups],
        }
        _write_fold(folder / name, parts)
        counts = f"{len(parts['training']):6} training {len(parts['validation']):6} validation"
        report.append(f"  {name:{width}}  {counts}  {some(sorted(groups))}")
    old = sorted(path.name for path in folder.glob("fold_*") if path.name not in names)
    if old:
        report.append(f"Of an earlier split, and not changed: {some(old)}.")
    report.append(
        "Next: python train.py --cfg RECIPE.yaml --cfg DATASET.yaml "
        f"--cfg {folder / 'fold_1' / 'config.yaml'}, and so on"
    )
    return report


def group_of(image: str, by: re.Pattern[str]) -> str | None:
    """The group that the pattern finds in the path of an image; None if it does not match."""
    match = by.search(image)
    return None if match is None else match[by.groups] or ""


def _grouped(lists: Sequence[str], by: re.Pattern[str]) -> list[_Line]:
    """The lines of all lists, each image once."""
    from ..data.records import read_records

    lines: dict[Record, _Line] = {}
    unmatched: list[str] = []
    for name in lists:
        records = read_records(name, required=("fpath_img", "fpath_segm"), optional=("width", "height"))
        for record, values in zip(records, records.as_dicts(), strict=True):
            group = group_of(record.fpath_img, by)
            if not group:
                unmatched.append(record.fpath_img)
                continue
            text = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
            lines.setdefault(record, _Line(text, group))
    if unmatched:
        raise UserError(
            f"--by '{by.pattern}' finds no group in {len(unmatched)} of {len(unmatched) + len(lines)} paths: "
            f"{some(unmatched)}."
        )
    return list(lines.values())


def _balanced(sizes: Counter[str], folds: int) -> list[set[str]]:
    """The groups of each fold. Equal sizes are ordered by name, so the result depends on the names alone."""
    members: list[set[str]] = [set() for _ in range(folds)]
    counts = [0] * folds
    for group, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        smallest = counts.index(min(counts))
        members[smallest].add(group)
        counts[smallest] += size
    return members


def _write_fold(folder: Path, parts: dict[str, list[bytes]]) -> None:
    for name, lines in parts.items():
        with replacing(folder / f"{name}.odgt") as file:
            file.writelines(line + b"\n" for line in lines)

    def quoted(path: Path | str) -> str:
        return json.dumps(str(path), ensure_ascii=False)  # a JSON string is a YAML string

    config = [
        "# Written by mit-semseg data split, which overwrites it. Give it after the dataset's config.",
        "DATASET:",
        f"  list_train: {quoted(folder / 'training.odgt')}",
        f"  list_val: {quoted(folder / 'validation.odgt')}",
        f"DIR: {quoted(f'ckpt/{folder.parent.name}/{folder.name}')}",
        "",
    ]
    with replacing(folder / "config.yaml") as file:
        file.write("\n".join(config).encode())


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None
    if pattern.groups > 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} has {pattern.groups} groups; use one, and (?:...) for the others"
        )
    return pattern
