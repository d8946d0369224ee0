"""``mit-semseg runs``: lists runs, as text, JSON or a page."""

import argparse
import json
import sys
from pathlib import Path

from ..runtime.files import replacing
from ..runtime.paths import argument

_EPILOG = """\
states:
  training   a process trains; "left" is its own estimate
  finished   all epochs are done, or TRAIN.patience ended the run
  stopped    a signal stopped it after its state was saved; TRAIN.resume auto resumes it
  dead       it was killed, or ended by the error that is shown; TRAIN.resume auto resumes its last state

"mean IoU" is that of the best validation, or else of the evaluation in FOLDER/RUN/result.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "folder",
        nargs="?",
        type=argument("FOLDER"),
        default="ckpt",
        metavar="FOLDER",
        help="is searched with its subfolders (default: ckpt)",
    )
    parser.add_argument(
        "--html",
        type=argument("--html"),
        metavar="FILE",
        help="write a page that compares the runs: curves, configs, predictions",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Lists the runs on standard output and returns the exit code.

    Raises: UserError if the folder does not exist, or the page cannot be written.
    """
    from .listing import as_json, as_text, find_runs
    from .page import render

    runs = find_runs(Path(args.folder))
    if args.html:
        with replacing(args.html) as file:
            title = Path(args.folder).resolve().name or str(args.folder)  # "." would name nothing
            file.write(render(runs, title).encode("utf-8", "backslashreplace"))
    if args.json:
        sys.stdout.write(json.dumps(as_json(runs), indent=2) + "\n")
    elif not runs:
        sys.stdout.write(f"No training has written into {args.folder} or a folder below it.\n")
    else:
        sys.stdout.write(as_text(runs))
    if args.html:
        sys.stderr.write(f"Page: {args.html}\n")
    return 0
