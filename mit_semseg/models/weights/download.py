"""Downloads a checkpoint from a server that may be slow, down, or answer with something else."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from filelock import FileLock, Timeout
from tqdm import tqdm

from ...errors import UserError
from ...runtime.files import replacing, unwritable
from ...runtime.log import get_logger
from .checkpoint import first_bytes, read
from .unwrap import unwrap

_CHUNK = 1 << 18  # bytes
_LOOK_S = 10.0  # how often to look at the file that another process downloads
_PATIENCE_S = 600.0
_TEMPORARY = (408, 429)  # the 4xx answers after which a retry can succeed: time-out, too many requests


class _AttemptError(Exception):
    """One attempt failed. ``permanent``: a retry would fail too."""

    def __init__(self, reason: str, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


def fetch(
    url: str,
    destination: str | Path,
    *,
    timeout_s: float = 15.0,
    retries: int = 2,
    backoff_s: float = 1.0,
    otherwise: str = "",
) -> Path:
    """The local copy of the checkpoint at ``url``, downloaded only if ``destination`` does not exist yet.

    ``destination`` is never a partial file. If several processes ask for the same file, one downloads it and
    the others wait.

    Args:
        timeout_s: longest wait in seconds for a connection, an answer, or the next bytes.
        retries: further attempts after the first.
        backoff_s: pause in seconds before the second attempt; it doubles with each further one.
        otherwise: what else the user can do if the download fails; added to the error.

    Returns: ``destination``.
    Raises: UserError if the download fails or the file cannot be written.
    """
    destination = Path(destination)
    try:
        if not destination.is_file():
            destination.parent.mkdir(parents=True, exist_ok=True)
            with _alone(destination):
                if not destination.is_file():  # another process may have downloaded it in the meantime
                    _download_with_retries(url, destination, timeout_s, retries, backoff_s)
    except OSError as error:
        raise unwritable(destination, error) from error
    except _AttemptError as error:
        by_hand = f"Put the file at {destination.absolute()} by hand."
        raise UserError(f"{url} could not be downloaded: {error}. {by_hand} {otherwise}".rstrip()) from error
    return destination


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Inside the block, no other process downloads the file. Waits for one as long as its file grows.

    Raises: UserError if that file has not grown for ``_PATIENCE_S``.
    """
    lock = FileLock(destination.with_name(f".{destination.name}.lock"))
    size, deadline = -1, 0.0
    while True:
        try:
            lock.acquire(timeout=_LOOK_S)
            break
        except Timeout:
            so_far = _bytes_so_far(destination)
            if size < 0:
                get_logger().info("Another process downloads %s; waiting for it", destination)
            if so_far != size:
                size, deadline = so_far, time.monotonic() + _PATIENCE_S
            elif time.monotonic() > deadline:
                raise UserError(
                    f"Another process holds {lock.lock_file} to download {destination}, but nothing has "
                    f"arrived for {_PATIENCE_S / 60:.0f} minutes. End that process, or put the file there by "
                    "hand."
                ) from None
    try:
        yield
    finally:
        lock.release()


def _bytes_so_far(destination: Path) -> int:
    try:
        return destination.with_name(f".{destination.name}.part").stat().st_size
    except OSError:  # it has not begun, or is between two attempts
        return 0


def _download_with_retries(
    url: str, destination: Path, timeout_s: float, retries: int, backoff_s: float
) -> None:
    for attempt in itertools.count():
        try:
            _download(url, destination, timeout_s)
            return
        except _AttemptError as error:
            if error.permanent or attempt == retries:
                raise
            pause_s = backoff_s * 2**attempt
            get_logger().warning(f"{url}: {error}. Retrying in {pause_s:g} s.")
            time.sleep(pause_s)


def _download(url: str, destination: Path, timeout_s: float) -> None:
    """Raises: _AttemptError if the network or the content is at fault, UserError if the disk is."""
    with _network_errors(timeout_s):
        request = Request(url, headers={"User-Agent": "mit-semseg"})
        # urlopen would keep the proxies of its first call for the life of the process.
        answer = build_opener().open(request, timeout=timeout_s)
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    interval_s = 0.1 if sys.stderr.isatty() else 10.0  # a log file gets few lines
    with (
        answer,
        replacing(destination) as file,
        tqdm.wrapattr(answer, "read", total, desc=destination.name, mininterval=interval_s) as body,
    ):
        for chunk in _chunks(body.read, timeout_s):
            file.write(chunk)
        if total is not None and file.tell() != total:
            raise _AttemptError(f"the connection was cut off after {file.tell()} of {total} bytes")
        file.flush()
        _check(Path(file.name))


def _chunks(read: Callable[[int], bytes], timeout_s: float) -> Iterator[bytes]:
    with _network_errors(timeout_s):
        while chunk := read(_CHUNK):
            yield chunk


@contextmanager
def _network_errors(timeout_s: float) -> Iterator[None]:
    """Raises the errors of the network as _AttemptError, so that they differ from those of the disk."""
    try:
        yield
    except HTTPError as error:
        error.close()
        permanent = 400 <= error.code < 500 and error.code not in _TEMPORARY
        raise _AttemptError(f"the server answered {error.code} {error.reason}".rstrip(), permanent) from error
    except ValueError as error:
        raise _AttemptError(f"it is not a URL ({error})", permanent=True) from error
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            reason = f"no data arrived for {timeout_s:g} s"
        else:
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise _AttemptError(reason) from error


def _check(file: Path) -> None:
    """Refuses a web page that came in place of the checkpoint, and a checkpoint that is not complete."""
    start = " ".join(first_bytes(file).decode("latin-1").split())
    if start.startswith("<"):
        raise _AttemptError(f"the server answered with a web page instead of a checkpoint ({start!r})")
    try:
        unwrap(read(file), file)
    except UserError as error:
        size = file.stat().st_size
        raise _AttemptError(f"the {size} bytes that arrived are not a complete checkpoint") from error
