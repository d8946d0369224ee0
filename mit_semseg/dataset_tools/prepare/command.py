"""The command line of ``mit-semseg data prepare``. Nothing slow is imported before the arguments are read."""

import argparse
import re

from ...runtime.arguments import share, whole
from ...runtime.paths import argument
from .formats import DRAWN, FORMATS

_PAIRED = ("folders", "rgb", "binary", "class-masks")
AUTO = "auto"
_ONLY_FOR = {  # options that the other formats do not read
    "image_folder": _PAIRED,
    "label_folder": _PAIRED,
    "image_suffix": _PAIRED,
    "label_suffix": _PAIRED,
    "label_offset": ("folders",),
    "one_channel": ("folders",),
    "colors": ("rgb",),
    "unknown_colors": ("rgb", "camvid"),
    "classes": ("camvid",),
    "background": ("labelme", *DRAWN),
    "overlap": DRAWN,
    "annotations": tuple(name for name in DRAWN if name != "class-masks"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Write OUT/training.odgt, validation.odgt, classes.csv and config.yaml, 8-bit labels (0 unlabelled,\n"
        "k for class k) and links to the images. SOURCE is never changed, and files that are up to date are\n"
        "not written again.\n\nformats:\n"
        + "\n".join(f"  {name:13}  {text}" for name, text in FORMATS.items())
    )
    add = parser.add_argument
    add("format", choices=[*FORMATS, AUTO], metavar="FORMAT",
        help=f"one of the above, or {AUTO} to recognize it")  # fmt: skip
    add(
        "source",
        type=argument("SOURCE"),
        metavar="SOURCE",
        help="folder of the dataset; unpack archives first",
    )
    add("out", type=argument("OUT"), metavar="OUT", help="folder to write to; created if it does not exist")

    group = parser.add_argument_group("all formats")
    add = group.add_argument
    add("--val-share", type=share, default=0.2, metavar="X",
        help="share of the images that validate if SOURCE has no split (default: 0.2)")  # fmt: skip
    add("--seed", type=whole(0), default=0, metavar="N", help="seed of that split (default: 0)")
    add("--map", type=parse_map, default={}, metavar="V:K,...",
        help='file values and the classes they become, 0 for unlabelled: "7:1, 8:1, 255:0"; "*:0" stands for '
        "all values that are not named; by default FORMAT decides")  # fmt: skip
    add("--ignore", type=_values, default=(), metavar="V,...", help="file values that become unlabelled")
    add(
        "--names",
        type=argument("--names"),
        metavar="FILE",
        help="class names: CSV (index,name[,red,green,blue]), VALUE: NAME lines, or one name per line",
    )
    add("--images", choices=("link", "copy"), default="link",
        help="symbolic links to SOURCE's images (default), or copies")  # fmt: skip
    add("--upright", action="store_true",
        help="turn images as their EXIF orientation says, also if their size does not show whether the label "
        "fits that view; images whose label fits it by size are always turned")  # fmt: skip
    add("--skip-bad", action="store_true", help="omit files that cannot be used, and list them")
    add(
        "--workers",
        type=whole(0),
        metavar="N",
        help="number of processes (default: one a CPU); 0: only this one",
    )

    group = parser.add_argument_group("some formats")
    add = group.add_argument
    add("--image-folder", metavar="NAME", help="images with labels: folder of the images in SOURCE")
    add("--label-folder", metavar="NAME", help="images with labels: folder of the labels in SOURCE")
    add(
        "--image-suffix",
        metavar="TEXT",
        help="images with labels: end of all image names: _sat for a_sat.jpg",
    )
    add(
        "--label-suffix",
        metavar="TEXT",
        help="images with labels: end of all label names: _mask for a_mask.png",
    )
    add("--label-offset", type=whole(0), metavar="N",
        help="folders: file value of the first class (default: 1); 0 if 0 is a class")  # fmt: skip
    add("--one-channel", action="store_true", default=None,
        help="folders: read labels that were saved as RGB with three equal channels")  # fmt: skip
    add("--colors", type=argument("--colors"), metavar="FILE",
        help="rgb: CSV with the columns name,red,green,blue, or labelmap.txt; row k is class k")  # fmt: skip
    add("--unknown-colors", choices=("refuse", "nearest", "unlabelled"),
        help="rgb, camvid: what to do with a colour that is not in the table (default: refuse)")  # fmt: skip
    add("--classes", metavar="N", help="camvid: 11 (default) or 32")
    add("--background", nargs="?", const="background", metavar="NAME",
        help="labelme and labelling tools: make the pixels outside of all shapes a class (default: "
        "unlabelled)")  # fmt: skip
    add("--overlap", choices=("later", "smaller"),
        help="labelling tools: which of two shapes has the pixels that both cover: the later (default), or "
        "the one with fewer pixels")  # fmt: skip
    add("--annotations", metavar="NAME",
        help="labelling tools: file or folder of the annotations in SOURCE, if it holds several")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Prepares the dataset, reports on standard output and returns the exit code.

    Raises: UserError for anything that the user has to fix.
    """
    import sys
    from dataclasses import replace

    from ...errors import UserError
    from .build import prepare
    from .release import PrepareOptions

    fields = {name: getattr(args, name) for name in PrepareOptions.__dataclass_fields__}
    fields["one_channel"] = bool(args.one_channel)
    options = PrepareOptions(**fields)
    if args.format == AUTO:
        from .recognize import recognize

        name, says = recognize(args.source, options)
        options = replace(options, format=name)
        sys.stdout.write(f"{says}\n")
        sys.stdout.flush()
    for name, formats in _ONLY_FOR.items():
        if getattr(args, name) is not None and options.format not in formats:
            flag = "--" + name.replace("_", "-")
            *others, last = formats
            wanted = f"{', '.join(others)} or {last}" if others else last
            raise UserError(f"{flag} is for the format {wanted}, not for {options.format}.")
    for line in prepare(args.source, args.out, options, workers=args.workers):
        sys.stdout.write(f"{line}\n")
    return 0


def parse_map(text: str) -> dict[int | None, int]:
    """``"7:1, 8:1, *:0"`` as {7: 1, 8: 1, None: 0}. Raises: argparse.ArgumentTypeError."""
    table: dict[int | None, int] = {}
    for part in re.split(r"[,;\s]+", re.sub(r"\s*:\s*", ":", text).strip(",; ")):
        match = re.fullmatch(r"(\d+|\*):(\d+)", part)
        if not match:
            raise argparse.ArgumentTypeError(f'{part!r} is not a pair such as 7:1, in "7:1, 8:1, 255:0"')
        value, label = None if match[1] == "*" else int(match[1]), int(match[2])
        if value is not None and value > 65535:
            raise argparse.ArgumentTypeError(f"{value} is not a label value; they go from 0 to 65535")
        if label > 255:
            raise argparse.ArgumentTypeError(f"{part}: a class is at most 255, because labels have 8 bits")
        if table.setdefault(value, label) != label:
            raise argparse.ArgumentTypeError(f"{match[1]} is mapped to {table[value]} and to {label}")
    return table


def _values(text: str) -> tuple[int, ...]:
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    if not parts or not all(part.isdecimal() and int(part) <= 65535 for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of file values from 0 to 65535, such as 255"
        )
    return tuple(int(part) for part in parts)
