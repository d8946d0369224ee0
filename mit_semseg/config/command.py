"""``mit-semseg config``: shows and searches the config keys."""

import argparse
import shutil
import sys

EPILOG = """\
examples:
  mit-semseg config TRAIN.amp
  mit-semseg config INFERENCE
  mit-semseg config learning rate
"""
_WIDTHS = (80, 110)  # columns of text on a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="KEY or word",
        help="a key, a section, or words that must all occur in a key's name, meaning or allowed values "
        "(default: all keys)",
    )
    parser.add_argument("--markdown", action="store_true", help="print the content of docs/config.md")


def run(args: argparse.Namespace) -> int:
    """Prints the keys and returns the exit code. Raises: UserError if no key fits the words."""
    from .show import as_markdown, as_text, search

    keys = search(args.words)
    width = min(max(shutil.get_terminal_size((_WIDTHS[1], 0)).columns, _WIDTHS[0]), _WIDTHS[1])
    sys.stdout.write(as_markdown(keys) if args.markdown else as_text(keys, width))
    return 0
