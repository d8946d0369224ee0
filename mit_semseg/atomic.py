"""Files that are either the old or the new one, never half of one."""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: str | Path, *, tag: str = "") -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` once the block has ended without an error.

    It is written beside ``path``, flushed to the disk, then renamed. An error or an interrupt in the block
    leaves what was there before, and nothing else. A process that is killed leaves the unfinished file, which
    the next one writes anew. The folder is made if it is missing.

    Args:
        tag: makes the unfinished file's name unique, where several processes may write the same file at once.

    Raises: UserError if the disk refuses (full, read-only, no permission). An OSError that the block raises
        by itself is taken for one of the disk's.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}{tag}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from error
    _flush_folder(path.parent)


def unwritable(path: Path, error: OSError) -> UserError:
    """What to tell the user whose file the disk refused."""
    todo = "Make room there" if error.errno in _FULL else "Make it writable"
    return UserError(
        f"{path} cannot be written: {error.strerror or error}. The folder is {path.parent.absolute()}. "
        f"{todo}, or choose another folder."
    )


def _flush_folder(folder: Path) -> None:
    """Makes a rename outlast a power cut."""
    # Some network file systems, and Windows, cannot; the file itself is on the disk by now.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
