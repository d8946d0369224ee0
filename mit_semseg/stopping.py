"""SIGTERM and SIGINT as requests that a loop answers when it suits; a second one is an order.

A request reaches every process of a run, and all of them have to answer it at the same iteration.
"""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

REQUESTS = (signal.SIGTERM, signal.SIGINT)
TOGETHER_S = 1.0
"""Signals this close to each other are one request: a terminal sends Ctrl-C to the launcher and to all of its
processes, and the launcher passes it on."""

PASSED_ON = {signal.SIGTERM: signal.SIGUSR1, signal.SIGINT: signal.SIGINT}
"""As what the launcher passes a request on to its processes, to which its SIGTERM is the order to end."""

OVER = b"\0"
"""Ends the thread that reads signals."""

_launched = False


def obey_launcher() -> None:
    """Tell this process that the launcher passes requests on, see `PASSED_ON`.

    Then a SIGTERM of its own is the launcher's order to end, because another process has failed.
    """
    global _launched
    _launched = True


class Requests:
    """Signals that arrived.

    They are read in a thread of its own: while the main one waits in a long operation, such as an exchange
    with a process that hangs, Python runs no handlers.

    Attributes:
        number: of the signal that asks to stop; 0 until there is one.
    """

    def __init__(self) -> None:
        self.number = 0

    def watch(self, receiver: socket.socket) -> None:
        """Follow the signals until a 0 comes; ends the process if told to."""
        since: float | None = None  # when the first request came
        order: float | None = None  # when a SIGTERM came that may be the launcher's order
        while True:
            wait = None if order is None else max(0.0, order + TOGETHER_S - time.monotonic())
            if not select.select([receiver], [], [], wait)[0]:
                _end(signal.SIGTERM)
            received = receiver.recv(1)
            if received == OVER:
                return
            if received[0] not in _handled():
                continue
            number = signal.SIGTERM if received[0] == PASSED_ON[signal.SIGTERM] else received[0]
            if since is not None and time.monotonic() - since > TOGETHER_S:
                _end(number)
            if _launched and received[0] == signal.SIGTERM:
                order = time.monotonic() if since is None else None
                continue
            since = since or time.monotonic()
            order = None
            self.number = self.number or number


@contextmanager
def requests() -> Iterator[Requests]:
    """Inside the block, SIGTERM and SIGINT are requests to stop; a second one ends the process at once.

    Outside the main thread, where Python takes no signals, there are none.
    """
    asked = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    handlers = {number: signal.getsignal(number) for number in _handled()}
    with watching_signals(asked.watch):
        try:
            for number in handlers:
                signal.signal(number, _no_exception)
            yield asked
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def watching_signals(watch: Callable[[socket.socket], None]) -> Iterator[None]:
    """Inside the block, ``watch`` runs in a thread and reads the numbers of signals, a byte each, to `OVER`.

    They are those that have a handler in Python, whatever that does; to be used in the main thread.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    watcher = threading.Thread(target=watch, args=(receiver,), name="signals", daemon=True)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sender.send(OVER)  # closing it would not do: forked processes hold it open, too
        watcher.join()
        sender.close()
        receiver.close()


class Agreement:
    """Brings all processes to stop behind the same iteration.

    Each tells the others in every iteration which signal it has got, and reads the answers an iteration
    later, so that nobody waits for them: they arrive while it computes.
    """

    def __init__(self, asked: Requests) -> None:
        self._asked = asked
        self._alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
        # On the CPU whatever the devices, since a GPU would have to be waited for.
        self._group: Any = None if self._alone else dist.new_group(backend="gloo")
        self._sent: tuple[torch.Tensor, dist.Work | None] | None = None

    def number(self) -> int:
        """The signal to stop for, the same in all processes, or 0; to be called by all, once an iteration."""
        if self._alone:
            return self._asked.number
        agreed = self._answer()
        mine = torch.tensor(self._asked.number)
        self._sent = mine, dist.all_reduce(mine, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed

    def wait(self) -> None:
        """Wait for all processes; to be called by all, when the loop is over."""
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


def _handled() -> tuple[signal.Signals, ...]:
    return (*REQUESTS, PASSED_ON[signal.SIGTERM]) if _launched else REQUESTS


def _no_exception(number: int, frame: object) -> None:
    """A handler only so that the signal goes into the socket."""


def _end(number: int) -> None:
    if not _launched:
        os.write(2, b"Ended at once.\n")
    os._exit(128 + number)
