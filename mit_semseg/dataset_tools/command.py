"""``mit-semseg data COMMAND``: the commands on datasets, each in a module of its own."""

import argparse

from . import scenes, shards, split, stats
from .check import command as check
from .prepare import command as prepare

_COMMANDS = {
    "check": (check, "Read every file of a list, and report each problem with how to fix it."),
    "prepare": (prepare, "Make lists, label files and class tables from datasets of many layouts."),
    "scenes": (scenes, "Make lists of windows of GeoTIFFs, split into training and validation by area."),
    "shards": (
        shards,
        "Copy the images and labels of a list into a few large tar files, which are read at random.",
    ),
    "split": (
        split,
        "Make folds for cross-validation, with all images of a sequence, site or patient in one fold.",
    ),
    "stats": (
        stats,
        "Compute the mean, deviation and limits of each band, and write them into a config.",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the commands and their arguments."""
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=text, description=text))


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns its exit code. Raises: as that command."""
    module, _ = _COMMANDS[args.command]
    code: int = module.run(args)
    return code
