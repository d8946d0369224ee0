"""Writing a folder whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from ..runtime.files import unwritable


def check_empty(out: Path) -> None:
    """Refuse a folder that holds files. Raises: UserError."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} already exists. Set --out to a new folder.")
    except OSError as error:
        raise unwritable(out, error) from error


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A new folder beside ``out``, which it becomes when the block ends without an error.

    Raises: UserError if it cannot be written.
    """
    folder: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield folder
        folder.chmod(0o755)  # a temporary folder is private
        if out.exists():
            out.rmdir()
        folder.replace(out)
    except BaseException as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise unwritable(out, error) from error
        raise
