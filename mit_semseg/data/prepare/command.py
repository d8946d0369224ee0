"""The command line of ``mit-semseg data prepare``. Nothing slow is imported before the arguments are read."""

import argparse
import re

FORMATS = {
    "folders": "images and label images in two folders (or one), matched by file name",
    "ade20k": "ADE20K of the 2016 scene parsing challenge: ADEChallengeData2016, as the zip or extracted",
    "ade20k-full": "the full ADE20K of 2021: ADE20K_2021_17_01, as the zip or extracted",
    "cityscapes": "Cityscapes: leftImg8bit and gtFine, extracted or a folder with both zips; 19 classes",
    "voc": "Pascal VOC segmentation: VOCdevkit/VOC2012, as the tar or extracted; 21 classes",
    "camvid": "CamVid: 701_StillsRaw_full and LabeledApproved_full; 11 classes, or all 32",
    "coco-stuff": "COCO-Stuff 164k: train2017, val2017 and stuffthingmaps_trainval2017; 171 classes",
    "rgb": "images and colour-coded label images, with a table of the colours (--colors)",
    "labelme": "LabelMe's JSON files beside their images, or with the images in them",
}
"""The formats, each with what it is. `formats.READERS` has the same keys."""

_PAIRED = ("folders", "rgb")
_ONLY_FOR = {  # options that the other formats would not read
    "image_folder": _PAIRED,
    "label_folder": _PAIRED,
    "image_suffix": _PAIRED,
    "label_suffix": _PAIRED,
    "label_offset": ("folders",),
    "colors": ("rgb",),
    "unknown_colors": ("rgb", "camvid"),
    "classes": ("camvid", "ade20k-full"),
    "background": ("labelme",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Write OUT/training.odgt, validation.odgt, classes.csv and config.yaml, 8-bit labels (0 unlabelled,\n"
        "k for class k) and links to the images. SOURCE is never changed, and nothing is written\n"
        "anew that is there already.\n\nformats:\n"
        + "\n".join(f"  {name:12} {text}" for name, text in FORMATS.items())
    )
    add = parser.add_argument
    add("format", choices=list(FORMATS), metavar="FORMAT", help="one of the above")
    add(
        "source",
        metavar="SOURCE",
        help="folder, zip or tar of the dataset; a folder may hold its zips or tars",
    )
    add("out", metavar="OUT", help="folder to write; made if it does not exist")

    group = parser.add_argument_group("all formats")
    add = group.add_argument
    add("--val-share", type=_share, default=0.2, metavar="X",
        help="part of the images that validates, where SOURCE has no split (default: 0.2)")  # fmt: skip
    add("--seed", type=_whole, default=0, metavar="N", help="of that split (default: 0)")
    add("--map", type=parse_map, default={}, metavar="V:K,...",
        help='file values and the classes they become, 0 for unlabelled: "7:1, 8:1, 255:0"; "*:0" is for all '
        "values not named; other values stay as FORMAT has them")  # fmt: skip
    add("--ignore", type=_values, default=(), metavar="V,...", help="file values that become unlabelled")
    add(
        "--names",
        metavar="FILE",
        help="names of the classes: CSV (index,name[,red,green,blue]) or one a line",
    )
    add("--images", choices=("link", "copy"), default="link",
        help="symbolic links to SOURCE's images (default), or copies; of a zip or tar, copies")  # fmt: skip
    add("--skip-bad", action="store_true", help="leave out files that cannot be used, and list them")
    add("--workers", type=_whole, metavar="N", help="processes (default: one a CPU core); 0: only this one")

    group = parser.add_argument_group("some formats")
    add = group.add_argument
    add("--image-folder", metavar="NAME", help="folders, rgb: the images' folder in SOURCE")
    add("--label-folder", metavar="NAME", help="folders, rgb: the labels' folder in SOURCE")
    add("--image-suffix", metavar="TEXT", help="folders, rgb: end of all image names: _sat for a_sat.jpg")
    add("--label-suffix", metavar="TEXT", help="folders, rgb: end of all label names: _mask for a_mask.png")
    add("--label-offset", type=_whole, metavar="N",
        help="folders: file value of the first class (default: 1); 0 where 0 is a class")  # fmt: skip
    add("--colors", metavar="FILE", help="rgb: CSV with the columns name,red,green,blue; row k is class k")
    add("--unknown-colors", choices=("refuse", "unlabelled"),
        help="rgb, camvid: what a colour outside of the table is (default: refuse)")  # fmt: skip
    add("--classes", metavar="WHICH",
        help="camvid: 11 (default) or 32; ade20k-full: scene-parsing (default; the challenge's 150), "
        "or N for the N most frequent objects")  # fmt: skip
    add("--background", nargs="?", const="background", metavar="NAME",
        help="labelme: make what is outside of all shapes a class (default: unlabelled)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Prepares the dataset that ``args`` describe and reports on standard output; the exit code.

    Raises: UserError for anything that the user has to mend.
    """
    import sys

    from ...errors import UserError
    from .build import prepare
    from .options import Options

    for name, formats in _ONLY_FOR.items():
        if getattr(args, name) is not None and args.format not in formats:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} is for the format {' or '.join(formats)}, not for {args.format}.")
    fields = {name: getattr(args, name) for name in Options.__dataclass_fields__}
    for line in prepare(args.source, args.out, Options(**fields), workers=args.workers):
        sys.stdout.write(f"{line}\n")
    return 0


def parse_map(text: str) -> dict[int | None, int]:
    """``"7:1, 8:1, *:0"`` as {7: 1, 8: 1, None: 0}. Raises: argparse.ArgumentTypeError."""
    table: dict[int | None, int] = {}
    for part in re.split(r"[,;\s]+", re.sub(r"\s*:\s*", ":", text).strip(",; ")):
        match = re.fullmatch(r"(\d+|\*):(\d+)", part)
        if not match:
            raise argparse.ArgumentTypeError(f'{part!r} is no pair such as 7:1, in "7:1, 8:1, 255:0"')
        value, label = None if match[1] == "*" else int(match[1]), int(match[2])
        if value is not None and value > 65535:
            raise argparse.ArgumentTypeError(f"{value} is no value of a label file; they go from 0 to 65535")
        if label > 255:
            raise argparse.ArgumentTypeError(f"{part}: a class is at most 255, since labels have 8 bits")
        if table.setdefault(value, label) != label:
            raise argparse.ArgumentTypeError(f"{match[1]} is mapped to {table[value]} and to {label}")
    return table


def _values(text: str) -> tuple[int, ...]:
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    if not parts or not all(part.isdecimal() and int(part) <= 65535 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of file values from 0 to 65535, such as 255")
    return tuple(int(part) for part in parts)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to below 1, such as 0.2")
    return share
