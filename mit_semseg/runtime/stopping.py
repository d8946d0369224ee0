"""Stopping on signals (SIGTERM, SIGINT, SIGHUP, SIGUSR1): the first asks a loop to stop, a second ends the
process at once.

A signal may reach one or all processes of a run. All of them stop after the same iteration.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

STOP_SIGNALS = tuple(  # Windows lacks SIGHUP, which a terminal sends when it is closed
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
SAME_REQUEST_S = 1.0
"""Signals this close to each other are one request. A terminal sends Ctrl-C to the launcher and to all of its
processes, and the launcher forwards it as well."""

FORWARDED_SIGTERM: signal.Signals | None = getattr(signal, "SIGUSR1", None)
"""A signal that counts as SIGTERM. Schedulers announce the end of a job with it. The launcher forwards a
SIGTERM as this signal, since its own SIGTERM orders a process to end because another one has failed. None
where the system has no such signal (Windows)."""

WAIT_S = 15.0
"""How long one of several processes may still be in a long wait after a request. Systems that send SIGTERM
usually kill after 30 s."""

_JOIN_S = 5.0  # limit for the thread that reads signals to end; it ends almost at once

_launched = False


def expect_forwarded_signals() -> None:
    """Declare that the launcher forwards stop signals to this process, see `FORWARDED_SIGTERM`.

    After that, a plain SIGTERM is the launcher's order to end.
    """
    global _launched
    _launched = True


def ignores_hangup() -> bool:
    """Whether this process shall outlive its terminal: nohup starts programs with SIGHUP ignored."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def ignore_stop_signals() -> None:
    """Leave stop signals to the parent process, which decides whether to finish a step first."""
    signal.set_wakeup_fd(-1)  # a fork inherits its parent's
    for number in (*STOP_SIGNALS, FORWARDED_SIGTERM):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)


class Interrupted(BaseException):
    """A signal has interrupted a wait, see `StopAgreement.interruptible`. ``signal`` is its number.

    It is not an Exception, so that the interrupted code does not handle it as an error of its own.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class StopRequest:
    """Whether a signal has asked this process to stop.

    Attributes:
        signal: number of the signal; 0 until there is one.
        waits_since: when this process entered a wait that cannot be interrupted; None outside of one.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.waits_since: float | None = None
        self._raises = False

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Inside the block, a request raises `Interrupted`, even if it arrived before."""
        try:
            self._raises = True
            if self.signal:
                raise Interrupted(self.signal)
            yield
        finally:
            self._raises = False

    def handle(self, number: int, frame: object) -> None:
        """The Python handler of the signals, which runs in the main thread.

        It may run before `watch` has read the signal, and just before a block that raises.
        """
        if _launched and number == signal.SIGTERM:  # the launcher's order to end, which `watch` obeys
            return
        self.signal = self.signal or _meaning(number)
        if self._raises:
            self._raises = False
            raise Interrupted(self.signal)

    def watch(self, receiver: socket.socket) -> None:
        """Read signals until the other end is shut down. End the process at a second request.

        Run it in a thread: while the main thread waits in a long operation, such as an exchange with a
        process that hangs, Python runs no signal handlers.
        """
        requested_at: float | None = None
        sigterm_at: float | None = None  # of a SIGTERM that may be the launcher's order to end
        while True:
            limit = None if requested_at is None else SAME_REQUEST_S
            if sigterm_at is not None:
                limit = sigterm_at + SAME_REQUEST_S - time.monotonic()
            try:
                # Unlike select.select, a timeout of the socket works for descriptors of 1024 and above.
                # Unlike a selector, it needs no further descriptor, which the system may refuse.
                receiver.settimeout(None if limit is None else max(limit, 1e-3))
                received = receiver.recv(1)
            except TimeoutError:
                if sigterm_at is not None:
                    _end(signal.SIGTERM)
                self._end_long_wait(requested_at or 0.0)
                continue
            if not received:
                return
            if received[0] not in _handled():
                continue
            number = _meaning(received[0])
            if requested_at is not None and time.monotonic() - requested_at > SAME_REQUEST_S:
                _end(number)
            if _launched and received[0] == signal.SIGTERM:
                sigterm_at = time.monotonic() if requested_at is None else None
                continue
            requested_at = requested_at or time.monotonic()
            sigterm_at = None
            self.signal = self.signal or number

    def _end_long_wait(self, requested_at: float) -> None:
        since = self.waits_since
        if since is not None and time.monotonic() - max(since, requested_at) > WAIT_S:
            text = (
                f"Ended by {signal.Signals(self.signal).name}: this process waited for data or validated "
                f"for another {WAIT_S:g} s. To resume from the last saved state, repeat the command with "
                "TRAIN.resume auto."
            )
            os.write(2, f"{text}\n".encode())
            os._exit(128 + self.signal)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Inside the block, stop signals are requests to stop; a second one ends the process at once.

    SIGHUP stays ignored if it is, see `ignores_hangup`. Outside the main thread, Python cannot handle
    signals, and no request arrives.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handlers = {number: signal.getsignal(number) for number in _handled()}
    with watching_signals(request.watch):
        try:
            for number in handlers:
                signal.signal(number, request.handle)
            yield request
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def watching_signals(watch: Callable[[socket.socket], None]) -> Iterator[None]:
    """Inside the block, ``watch`` runs in a thread and reads the numbers of signals that arrive, as bytes.

    It gets the signals that have a Python handler, whatever the handler does. It has to return at the end of
    the stream. Call this in the main thread.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    watcher = threading.Thread(target=watch, args=(receiver,), name="signals", daemon=True)
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        # close() would not end the stream, because forked processes keep it open.
        sender.shutdown(socket.SHUT_WR)
        watcher.join(_JOIN_S)
        sender.close()
        receiver.close()


class StopAgreement:
    """Makes all processes stop after the same iteration.

    In every iteration, each process sends the signal that it has received to the others. It reads their
    answers one iteration later. They arrive while it computes, so it does not wait for them.

    Args:
        request: of this process.
        timeout_s: limit for one exchange, in seconds.
    """

    def __init__(self, request: StopRequest, timeout_s: float) -> None:
        self._request = request
        self._alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
        # On the CPU, even for GPUs: an exchange on a GPU would wait for its queue. Without a
        # timeout, a new group would get torch's limit of 30 minutes, not that of the default group.
        self._group: Any = (
            None if self._alone else dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
        )
        self._sent: tuple[torch.Tensor, dist.Work | None] | None = None

    def signal(self) -> int:
        """The signal to stop for, or 0; the same in all processes. All have to call it once an iteration."""
        if self._alone:
            return self._request.signal
        agreed = self._answer()
        mine = torch.tensor(self._request.signal)
        self._sent = mine, dist.all_reduce(mine, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside the block, which may take long, a request to stop takes effect before the end.

        In a single process, the block raises `Interrupted`. One of several processes cannot leave the block,
        since the others may be waiting for it in an exchange. It ends if its block still lasts ``WAIT_S``
        after the request, and the launcher then ends the others.
        """
        if self._alone:
            with self._request.raising():
                yield
            return
        self._request.waits_since = time.monotonic()
        try:
            yield
        finally:
            self._request.waits_since = None

    def wait(self) -> None:
        """Wait for all processes. All have to call it after the loop."""
        if not self._alone:
            self._answer()
            dist.barrier(self._group)

    def _answer(self) -> int:
        if self._sent is None:
            return 0
        value, work = self._sent
        if work is not None:
            work.wait()
        self._sent = None
        return int(value)


def _meaning(number: int) -> int:
    return signal.SIGTERM if number == FORWARDED_SIGTERM else number


def _handled() -> tuple[signal.Signals, ...]:
    numbers = (*STOP_SIGNALS, FORWARDED_SIGTERM) if FORWARDED_SIGTERM else STOP_SIGNALS
    return tuple(number for number in numbers if number != signal.SIGHUP) if ignores_hangup() else numbers


def _end(number: int) -> NoReturn:
    if not _launched:
        os.write(2, b"Ended at once.\n")
    os._exit(128 + number)
