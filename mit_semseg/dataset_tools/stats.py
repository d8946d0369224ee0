"""``mit-semseg data stats``: the statistics by which images with bands are scaled, written into a config.

Nothing slow is imported before the arguments are read, so that ``--help`` answers at once.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import UserError
from ..runtime.arguments import number, whole
from ..runtime.files import replacing
from ..runtime.paths import argument

if TYPE_CHECKING:
    from .band_statistics import BandStatistics

_PERCENTILES = (0.5, 99.5)
_DIGITS = 6  # significant ones in the config
_WIDTH = 100  # columns of a line in the config
_EPILOG = """\
The images are those of DATASET.list_train, with DATASET.channels, bands and nodata. The command writes
DATASET.clip_low and clip_high, the percentiles of each channel, and mean and std, those of the clipped
values. Pixels without data do not count.

  mit-semseg data stats --cfg mine/config.yaml
  mit-semseg data stats --cfg mine/config.yaml --out mine/bands.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--cfg", action="append", required=True, metavar="FILE",
        help="the config of the dataset; of several, the last one is changed")  # fmt: skip
    add("--percentiles", nargs=2, type=number(0, 100), default=_PERCENTILES, metavar=("LOW", "HIGH"),
        help=f"percentiles to clip at (default: {_PERCENTILES[0]} {_PERCENTILES[1]})")  # fmt: skip
    add("--out", type=argument("--out"), metavar="FILE",
        help="write the keys into a config of their own, which is passed as a further --cfg")  # fmt: skip
    add("--workers", type=whole(0), metavar="N", help="number of processes (default: one a CPU)")


def run(args: argparse.Namespace) -> int:
    """Computes and writes the statistics, prints them and returns the exit code.

    Raises: UserError for a config or a list that cannot be used, and with all images that cannot be read.
    """
    low, high = args.percentiles
    if low >= high:
        raise UserError(f"--percentiles {low:g} {high:g}: the first must be below the second.")
    from ..config import load_config

    dataset = load_config(args.cfg).DATASET
    target = Path(args.out or args.cfg[-1])
    if not args.out and not target.is_file():
        raise UserError(f"{target} is not a file that can be changed. Name another file with --out.")
    from ..data.bands import BandSelection
    from ..data.file_cache import FileCache
    from .band_statistics import compute_statistics

    selection = BandSelection.of(dataset) or BandSelection(dataset.channels)
    found = compute_statistics(
        dataset.root_dataset,
        dataset.list_train,
        selection,
        (low, high),
        workers=args.workers,
        cache=FileCache.of(dataset),
    )
    lines = _as_lines(found)
    before = target.read_text(encoding="utf-8") if target.is_file() and not args.out else ""
    text = _with_keys(before, lines, target)
    with replacing(target) as file:
        file.write(text.encode())
    sys.stdout.write(_table(found, selection.numbers))
    sys.stdout.write(f"Written to {target}, section DATASET: {', '.join(found.keys())}.\n")
    return 0


def _as_lines(found: "BandStatistics") -> dict[str, str]:
    """A line of YAML for each key."""
    lines = {}
    for key, values in found.keys().items():
        numbers = [float(f"{value:.{_DIGITS}g}") for value in values]
        lines[key] = f"  {key}: {yaml.safe_dump(numbers, default_flow_style=True, width=10**6).strip()}"
    return lines


def _with_keys(text: str, lines: dict[str, str], target: Path) -> str:
    """The text of a config with lines in its section DATASET, in place of those that have the keys now.

    All else stays as it is, comments too.

    Raises: UserError if the file is written in a way that lines cannot be put into.
    """
    rows = text.splitlines()
    start = next((k for k, row in enumerate(rows) if re.match(r"DATASET\s*:\s*(#.*)?$", row)), None)
    if start is None:
        new = [*rows, *([""] if rows else []), "DATASET:", *lines.values()]
    else:
        end = next((k for k in range(start + 1, len(rows)) if re.match(r"[^\s#]", rows[k])), len(rows))
        kept, skips = [], False
        for row in rows[start + 1 : end]:
            if key := re.match(r"(\s+)(\w+)\s*:", row):
                skips = key[2] in lines
            elif row.strip() and not re.match(r"\s*-", row) and not re.match(r"\s+[\d\[\].,e+-]+", row):
                skips = False
            if not skips:
                kept.append(row)
        while kept and not kept[-1].strip():
            kept.pop()
        indent = next((m[1] for row in kept if (m := re.match(r"(\s+)\w+\s*:", row))), "  ")
        ours = [indent + line.strip() for line in lines.values()]
        new = [*rows[: start + 1], *kept, *ours, *([""] if end < len(rows) else []), *rows[end:]]
    result = "\n".join(new) + "\n"
    wanted = yaml.safe_load(text) or {}
    section = {**(wanted.get("DATASET") or {}), **(yaml.safe_load("\n".join(lines.values())) or {})}
    try:
        fits = yaml.safe_load(result) == {**wanted, "DATASET": section}
    except yaml.YAMLError:
        fits = False
    if not fits:
        raise UserError(
            f"{target} is written in a form that cannot be changed safely. Name another file with --out."
        )
    return result


def _table(found: "BandStatistics", numbers: Sequence[int]) -> str:
    """The statistics for people."""
    rows = ["band      least    clip low        mean   deviation   clip high    greatest   without data"]
    columns: list[Any] = [found.least, found.low, found.mean, found.std, found.high, found.greatest]
    for k, values in enumerate(zip(*columns, strict=True)):
        number = numbers[k] if numbers else k + 1
        cells = "".join(f"{value:12.5g}" for value in values)
        rows.append(f"{number:4}{cells[1:]}{found.absent[k]:14.2%}")
    rows.append(f"{found.images} images, {found.pixels:,} pixels sampled of {found.total:,}.")
    return "\n".join(rows) + "\n"
