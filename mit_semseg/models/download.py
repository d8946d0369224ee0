"""Fetching one checkpoint file over a network that may fail in any way."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from tqdm import tqdm

from ..atomic import replacing, unwritable
from ..errors import UserError
from ..log import get_logger

if sys.platform != "win32":
    import fcntl

_MAGIC = (b"PK\x03\x04", b"\x80\x02")  # how a checkpoint begins: a zip, a legacy pickle
_CHUNK = 1 << 18  # bytes
_SLOWEST = 1024  # bytes a second, over one time-out; below it, a server counts as stuck
_PASSING = (408, 429)  # answers of the kind "not your fault" among the 4xx ones


class _FailedError(Exception):
    """One attempt failed. ``final``: another one would fail too."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def fetch(
    url: str,
    destination: str | Path,
    *,
    timeout_s: float = 15.0,
    retries: int = 2,
    backoff_s: float = 1.0,
    check: Callable[[Path], object] | None = None,
    otherwise: str = "",
) -> Path:
    """The checkpoint at ``url`` as the local file ``destination``; fetched only if that is not there yet.

    Whatever goes wrong, there is either the whole file or none. When several processes ask for the same file,
    one fetches it and the others wait.

    Args:
        timeout_s: longest wait in seconds for a connection, an answer, or the next bytes.
        retries: further attempts after the first.
        backoff_s: pause in seconds before the second attempt; it doubles with each further one.
        check: called with the whole file before it is accepted; raises UserError if that is no good.
        otherwise: what the user can do instead, added to the error as a sentence.

    Returns: ``destination``.
    Raises: UserError if it cannot be had, or cannot be written.
    """
    destination = Path(destination)
    if _is_there(destination):
        return destination
    with _alone(destination) as tag:
        if not _is_there(destination):  # another process may have fetched it in the meantime
            failure = _attempts(
                lambda: _attempt(url, destination, timeout_s, check, tag), url, retries, backoff_s
            )
            if failure is not None:
                by_hand = f"Put the file at {destination.absolute()} by hand."
                raise UserError(
                    f"{url} could not be fetched: {failure}. {by_hand} {otherwise}".rstrip()
                ) from failure
    return destination


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError as error:  # a folder that may not be entered
        raise unwritable(file, error) from error


def _attempts(attempt: Callable[[], None], url: str, retries: int, backoff_s: float) -> _FailedError | None:
    """The last attempt's failure, or None as soon as one succeeds."""
    for pause_s in (*(backoff_s * 2**i for i in range(retries)), None):
        try:
            attempt()
            return None
        except _FailedError as failure:
            if failure.final or pause_s is None:
                return failure
            get_logger().warning(f"{url}: {failure}. Another attempt in {pause_s:g} s.")
            time.sleep(pause_s)
    raise AssertionError("the loop ends by return")


def _attempt(
    url: str, destination: Path, timeout_s: float, check: Callable[[Path], object] | None, tag: str
) -> None:
    """Fetches once. Only the disk's errors leave it as such: the network's are _FailedError."""
    with _answer(url, timeout_s) as answer:
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        on_terminal = sys.stderr.isatty()
        with (
            replacing(destination, tag=tag) as file,
            tqdm(
                desc=destination.name,
                total=total,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                mininterval=0.1 if on_terminal else 10.0,  # a log gets few lines
            ) as bar,
        ):
            received = 0
            for chunk in _chunks(answer, timeout_s):
                if received == 0:
                    _check_first_bytes(chunk, answer.headers.get("Content-Type", ""))
                file.write(chunk)
                received += len(chunk)
                bar.update(len(chunk))
            if total is not None and received != total:
                raise _FailedError(f"the connection was cut off after {received} of {total} bytes")
            if received == 0:
                raise _FailedError("the answer is empty")
            if check is not None:
                file.flush()
                try:
                    check(Path(file.name))
                except UserError as error:
                    raise _FailedError(
                        f"the {received} bytes that came are not a whole checkpoint"
                    ) from error


def _answer(url: str, timeout_s: float) -> HTTPResponse:
    try:
        request = Request(url, headers={"User-Agent": "mit-semseg"})
        # A new opener, since the one of urlopen keeps the proxies of its first call.
        return build_opener().open(request, timeout=timeout_s)
    except HTTPError as error:
        error.close()
        final = 400 <= error.code < 500 and error.code not in _PASSING
        raise _FailedError(f"the server answered {error.code} {error.reason}".rstrip(), final) from error
    except ValueError as error:
        raise _FailedError(f"it is not a URL ({error})", final=True) from error
    except (OSError, HTTPException) as error:
        raise _FailedError(_describe(error, timeout_s)) from error


def _chunks(answer: HTTPResponse, timeout_s: float) -> Iterator[bytes]:
    """The body, piece by piece; the first one has 64 bytes, if the body has as many."""
    try:
        yield answer.read(64)
        since, received = time.monotonic(), 0
        # read1 gives what has come; read waits for the whole chunk, which a trickle could make endless.
        while chunk := answer.read1(_CHUNK):
            yield chunk
            received += len(chunk)
            elapsed_s = time.monotonic() - since
            if elapsed_s > timeout_s:
                if received < _SLOWEST * elapsed_s:
                    raise _FailedError(f"the server is stuck: {received} bytes came in {elapsed_s:.1f} s")
                since, received = time.monotonic(), 0
    except (OSError, HTTPException) as error:
        raise _FailedError(_describe(error, timeout_s)) from error


def _describe(error: Exception, timeout_s: float) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return f"nothing came for {timeout_s:g} s"
    if isinstance(reason, OSError):
        return (reason.strerror or str(reason)).lower()
    return f"the connection broke ({type(reason).__name__}: {reason})"


def _check_first_bytes(first: bytes, content_type: str) -> None:
    if first and not first.startswith(_MAGIC):
        start = " ".join(first.decode("latin-1").split())
        kind = "HTML" if start.startswith("<") or "html" in content_type else "something else"
        raise _FailedError(f"the server answered with {kind} instead of a checkpoint ({start!r})")


@contextmanager
def _alone(destination: Path) -> Iterator[str]:
    """Only one process at a time is inside for this file; the others wait, and fail with it if it fails.

    Yields: a tag for the unfinished file: empty, or unique where the file system has no locks, so that each
        process fetches for itself.
    """
    # The kernel drops the lock of a process that died, whichever way, so a lock cannot be stale.
    lock = destination.with_name(f".{destination.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                locked = _lock(handle, destination)
                if _is_at(handle, lock):
                    break
                failure = os.read(handle, 1 << 16)  # the one before us has finished and removed it
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
            if failure:
                raise UserError(failure.decode())
    except OSError as error:
        raise unwritable(destination, error) from error
    try:
        yield "" if locked else f".{os.getpid()}"
    except UserError as error:
        with contextlib.suppress(OSError):  # on a full disk those who wait find out by themselves
            os.ftruncate(handle, 0)
            os.write(handle, str(error).encode())
        raise
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)


def _lock(handle: int, destination: Path) -> bool:
    """Waits for the lock on an open file; False if this system has none."""
    if sys.platform == "win32":
        return False
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            get_logger().info(f"Another process is fetching {destination}; waiting for it.")
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
