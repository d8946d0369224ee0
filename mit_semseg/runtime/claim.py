"""The claim of a run on its folder: a lock that the system releases when its owner ends, even if killed."""

import contextlib
import datetime
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UserError
from .files import check_writable, unwritable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".mit-semseg.lock"

_PATIENCE_S = 2.0  # a killed process keeps its lock until the system has freed its memory
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system

_held: set[int] = set()  # descriptors of the locks that this process holds


@contextmanager
def claimed(folder: str | Path, doing: str, key: str, *, enabled: bool = True) -> Iterator[None]:
    """Inside the block, no other process can claim the folder, on any machine if the file system has locks.

    The claim is a locked file in the folder that names its owner. It is deleted at the end. A killed process
    leaves the file without a lock, and the next claim replaces it. Where the file system has no locks, the
    file alone counts, unless it names a process of this machine that has ended.

    Args:
        folder: created if it does not exist. If nothing was written into it, it is deleted at the end.
        doing: completes "the folder is being ...", such as "trained".
        key: the config key of the folder.
        enabled: False on processes other than the first, which claim nothing.

    Raises: UserError if another process holds the folder, naming it; or if the folder is not writable.
    """
    if not enabled:
        yield
        return
    folder = Path(folder)
    check_writable(folder, key)
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _claim(path, doing, key)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        _release(descriptor, path)
        for parent in made:
            with contextlib.suppress(OSError):  # it is not empty
                parent.rmdir()


def owner_of(folder: str | Path) -> dict[str, Any] | None:
    """The process that holds a folder: ``host``, ``process``, ``since``, ``doing``, ``command``.

    Where files have no locks, the claim of a process on another host counts, which may have been killed.

    Returns: {} if the process has not written its name yet; None if no process holds the folder.
    """
    path = Path(folder) / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        locked = _lock(descriptor, shared=True)
        owner = _read(path)
        held = locked is False or (locked is None and not _is_stale(owner))
        return owner if held else None
    finally:
        os.close(descriptor)


def _claim(path: Path, doing: str, key: str) -> int:
    """The descriptor of the file, locked and filled in."""
    _drop_claims_in_forks()
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        descriptor, is_new = _open(path)
        try:
            locked = _lock(descriptor)
            free = locked if locked is not None else is_new
            if free and _is_at(descriptor, path):
                _write(descriptor, doing)
                _held.add(descriptor)
                return descriptor
            if locked is None and _is_stale(_read(path)):
                path.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                hint = f" If it has ended, delete {path}." if locked is None else ""
                raise UserError(_refusal(path, doing, key) + hint)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.05)


def _release(descriptor: int, path: Path) -> None:
    _held.discard(descriptor)
    if fcntl is None:  # Windows does not delete an open file
        os.close(descriptor)
    with contextlib.suppress(OSError):  # somebody may have deleted the folder
        path.unlink()  # before releasing the lock: after that, the next owner may have the file
    if fcntl is not None:
        os.close(descriptor)


def _open(path: Path) -> tuple[int, bool]:
    """A descriptor of the file, and whether it is new."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False


def _lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Whether the file could be locked; None where files have no locks.

    Args:
        shared: a lock that several processes can have at a time, if none of them claims the folder.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_stale(owner: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that has ended."""
    return owner.get("host") == socket.gethostname() and not _is_running(owner.get("process"))


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file is still at its path. Its former owner deletes it at the end."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write(descriptor: int, doing: str) -> None:
    owner = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.datetime.now().isoformat(" ", "seconds"),
        "doing": doing,
        "command": " ".join(sys.argv),
    }
    os.ftruncate(descriptor, 0)
    os.write(descriptor, (json.dumps(owner, indent=1) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    """The owner that the file names; {} if it is new, or its owner was killed before it wrote its name."""
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _refusal(path: Path, doing: str, key: str) -> str:
    owner = _read(path)
    by = (
        f"process {owner.get('process', '?')} on host {owner.get('host', '?')}"
        if owner
        else "another process"
    )
    since = str(owner.get("since", ""))
    today = f"{datetime.date.today().isoformat()} "
    moment = f" since {since.removeprefix(today)[: -len(':00')]}" if since else ""
    return (
        f"{path.parent} is being {owner.get('doing', doing)} by {by}{moment}. "
        f"Stop that process, or set {key} to another folder."
    )


def _is_running(process: Any) -> bool:
    """Whether a process of this machine is running; True if that is unknown."""
    if not isinstance(process, int) or sys.platform == "win32":  # on Windows, os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


@cache
def _drop_claims_in_forks() -> None:
    """Make forks of this process close its locks. Otherwise a lock would last until all forks have ended."""
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=_drop_claims)


def _drop_claims() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
