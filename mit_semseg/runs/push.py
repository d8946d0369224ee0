"""``mit-semseg push``: uploads a trained model to a model hub, through huggingface_hub."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..runtime.packages import require
from .card_command import add_card_arguments, check_names

if TYPE_CHECKING:
    from .trained import Trained

_EPILOG = """\
It uploads the checkpoint, config.yaml, classes.csv, README.md, curves.png, and metrics.json and report.html
of the evaluation. Segmenter.load reads a downloaded copy. README.md is written as by mit-semseg card, unless
DIR has one. config.yaml and the files of the evaluation name the paths of your data.
Log in once with: hf auth login. The variable HF_ENDPOINT names another hub.
"""
# Beginnings of modules whose errors are about the hub or the way to it, in all releases of huggingface_hub.
_LIBRARIES = ("huggingface_hub", "httpx", "httpcore", "requests")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add_card_arguments(parser)
    parser.add_argument("repo", metavar="OWNER/NAME", help="the repository; created if it does not exist")
    parser.add_argument("--private", action="store_true", help="create the repository as a private one")


def run(args: argparse.Namespace) -> int:
    """Uploads the files in one commit, and returns the exit code.

    Raises: UserError if there is nothing to upload, or the hub cannot be reached or refuses.
    """
    check_names(args)
    require("huggingface_hub", "push")
    from huggingface_hub import CommitOperationAdd, HfApi

    from .card import NAME, write_card
    from .trained import find_trained

    trained = find_trained(Path(args.folder), args.checkpoint)
    if not (trained.folder / NAME).is_file():
        write_card(trained, name=args.name, license_id=args.license, datasets=args.dataset)
    files = files_to_push(trained)
    with _explaining(args.repo, files):
        api = HfApi()
        repo = api.create_repo(args.repo, private=args.private or None, exist_ok=True)
        operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        api.create_commit(args.repo, operations, commit_message=f"Upload {trained.checkpoint}")
    sys.stdout.write(f"Uploaded {len(files)} files: {repo}\n")
    return 0


def files_to_push(trained: "Trained") -> dict[str, Path]:
    """The files by their names in the repository.

    Raises: UserError without a config, because nobody could load the model.
    """
    from ..runtime.resources import find
    from .run import read_config_of

    folder = trained.folder
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder} has no config.yaml. Copy the config that the model was trained with to it."
        )
    files = {file.name: file for file in trained.weights}
    files |= {name: folder / name for name in ("README.md", "config.yaml", "curves.png")}
    files["classes.csv"] = folder / "classes.csv"
    table = str(read_config_of(folder).get("DATASET.classes") or "")
    if table and not files["classes.csv"].is_file():
        try:
            files["classes.csv"] = find(table)
        except UserError:
            raise UserError(
                f"DATASET.classes is {table}, which does not exist here. Copy the table to "
                f"{folder / 'classes.csv'}; without it, the classes would have no names."
            ) from None
    if trained.evaluations:
        files |= {name: trained.evaluations[0][0] / name for name in ("metrics.json", "report.html")}
    return {name: path for name, path in files.items() if path.is_file()}


@contextmanager
def _explaining(repo: str, files: dict[str, Path]) -> Iterator[None]:
    """Inside the block, an error of the hub or the network becomes a UserError that says what to do."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(_LIBRARIES) and not isinstance(error, OSError):
            raise
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
            advice = "Log in with a token that may write: hf auth login, or set HF_TOKEN."
        elif type(error).__name__ == "HFValidationError":
            advice = "Name the repository as OWNER/NAME."
        elif status is not None:
            advice = "Nothing was published."
        else:
            advice = (
                "Check the network, and HF_ENDPOINT if you use another hub. Or upload these files on its "
                f"page: {', '.join(map(str, files.values()))}."
            )
        raise UserError(f"{repo} could not be uploaded: {reason}. {advice}") from error
