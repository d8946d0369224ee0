"""Atomic writes: a file has either its old or its new content, never a part of it. And whether it changed."""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: str | Path, *, tag: str = "") -> Iterator[BinaryIO]:
    """A file to write to. It replaces ``path`` when the block ends without an error.

    It is written in the folder of ``path``, flushed to the disk, then renamed. An error or an interrupt in
    the block leaves ``path`` as it was, and no other file. A process that is killed leaves the unfinished
    file, which the next write overwrites. A missing folder is created.

    Args:
        tag: makes the name of the unfinished file unique, where several processes may write the same file.

    Raises: UserError if the file cannot be written (disk full, read-only, no permission). An OSError that the
        block raises counts as one of the disk's.
    """
    path = Path(path)
    part = _part(path, tag)
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


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: an error leaves all of them as they were, and no other file.

    All are written in full, as by `replacing`, before the first one replaces an older one. Only a rename that
    the system refuses although it took the new file leaves new files beside old ones; the message says which.

    Args:
        contents: of each file.

    Raises: UserError if a file cannot be written.
    """
    parts = {path: _part(path) for path in contents}
    renamed: list[str] = []
    path = Path()
    try:
        try:
            for path, part in parts.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    file.write(contents[path])
                    file.flush()
                    os.fsync(file.fileno())
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            for path, part in parts.items():
                part.replace(path)
                renamed.append(path.name)
        except BaseException:
            for part in parts.values():
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        mixed = f" Already new, unlike the others: {', '.join(renamed)}." if renamed else ""
        raise UserError(f"{unwritable(path, error)}{mixed}") from error
    for folder in {path.parent for path in parts}:
        _flush_folder(folder)


def check_writable(path: str | Path, key: str) -> None:
    """Refuse a folder that can't be created or written to. The check leaves nothing on the disk.

    The folder itself is created with its first file, so a run that fails earlier leaves nothing either.

    Raises: UserError that names ``key``, the config key of the folder.
    """
    folder = Path(path)
    made: list[Path] = []
    try:
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # a full disk may still take an empty file
    except OSError as error:
        reason = "a file has that name" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f"{folder} can't be written into: {reason}. Set {key} to another folder.") from error
    finally:
        for parent in made:
            with contextlib.suppress(OSError):  # it was not created after all, or is in use by now
                parent.rmdir()


def unwritable(path: Path, error: OSError) -> UserError:
    """The error for a file that cannot be written."""
    what_to_do = "Make room there" if error.errno in _FULL else "Make it writable"
    if error.errno == errno.EISDIR:
        what_to_do = f"Rename the folder {path.name} in it"
    return UserError(
        f"{path} cannot be written: {error.strerror or error}. The folder is {path.parent.absolute()}. "
        f"{what_to_do}, or choose another folder."
    )


def _part(path: Path, tag: str = "") -> Path:
    """The unfinished file that becomes ``path``, in the same folder."""
    return path.with_name(f".{path.name}{tag}.part")


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power failure."""
    # Windows and some network file systems cannot flush a folder; the file itself is already on the disk.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def state_of(file: str | Path) -> list[int] | None:
    """The size of a file in bytes and the time of its last change in nanoseconds; None if there is none.

    A file is taken for unchanged as long as both are the same.
    """
    try:
        found = os.stat(file)  # noqa: PTH116 - a Path takes longer than the call
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def sha256_of(file: str | Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with Path(file).open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
