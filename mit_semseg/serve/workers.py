"""Worker processes as the server sees them: started, watched, and replaced when they die."""

import asyncio
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from .messages import Answer, Batch, Job, Model, ModelSource, Ready, Unusable
from .worker import HELD_BATCHES, run_worker

_START_METHOD = "spawn"  # a fork would inherit the connections of the other workers, and threads' locks
_LONGEST_PAUSE_S = 30.0  # before another start of a worker that dies while it loads
_END_S = 5.0  # for a worker to end after its connection is closed


class Worker:
    """A worker process, and the batches that it has not answered yet.

    All methods are called in the event loop.

    Attributes:
        ready: whether it takes batches.
        held: the jobs that it has, by their numbers.
    """

    def __init__(
        self, start: Callable[[], tuple[Any, Connection]], listener: "Listener", patience_s: float
    ) -> None:
        """
        Args:
            start: starts a process; returns it and the server's end of its connection.
            listener: what to call when the worker is ready, answers or dies.
            patience_s: a worker that answers nothing for that long although it has work is killed.
        """
        self._start, self._listener, self._patience_s = start, listener, patience_s
        self._loop = asyncio.get_running_loop()
        self._sender = ThreadPoolExecutor(1, "sender")
        self._reader: threading.Thread | None = None
        self._process: Any = None
        self._connection: Connection | None = None
        self._failures = 0
        self._last_sign = 0.0
        self._closing = False
        self._batches: list[set[int]] = []
        self.ready = False
        self.held: dict[int, Job] = {}

    def start(self) -> None:
        """Start a process. `Listener.on_ready` follows when it has loaded the models."""
        self._reader = threading.Thread(target=self._run, daemon=True, name="worker")
        self._reader.start()

    def has_room(self) -> bool:
        """Whether it takes another batch now."""
        return self.ready and len(self._batches) < HELD_BATCHES

    def send(self, batch: Batch) -> None:
        """Give it a batch."""
        if not self._batches:
            self._last_sign = time.monotonic()
        self._batches.append({job.number for job in batch.jobs})
        self.held.update({job.number: job for job in batch.jobs})
        self._sender.submit(self._deliver, self._connection, batch)

    def check(self) -> None:
        """Kill the process if it is stuck; the end of the connection then does the rest."""
        if self._batches and time.monotonic() - self._last_sign > self._patience_s:
            self._process.kill()

    async def close(self) -> None:
        """End the process."""
        self._closing, self.ready = True, False
        if self._connection is not None:
            self._sender.submit(self._deliver, self._connection, None)
        if self._reader is not None:
            await asyncio.to_thread(self._reader.join, _END_S)
        if self._process is not None:
            self._process.kill()  # nothing happens if it has ended
        self._sender.shutdown(wait=False)

    def _deliver(self, connection: Connection | None, batch: Batch | None) -> None:
        assert connection is not None
        with suppress(OSError, ValueError):  # it has died, which the thread that reads finds, too
            connection.send(batch)

    def _run(self) -> None:
        """Start the process and read what it sends, in a thread of its own."""
        time.sleep(min(2.0**self._failures - 1, _LONGEST_PAUSE_S))
        if self._closing:
            return
        self._process = self._connection = None
        cause = ""
        try:
            self._process, self._connection = self._start()
            while True:
                self._call(self._receive, self._connection.recv())
        except EOFError:
            pass
        except OSError as error:  # no memory for a process, or the connection was reset
            cause = error.strerror or str(error)
        if self._process is not None:
            self._process.join()
            code = self._process.exitcode
            cause = signal.Signals(-code).name if code < 0 else cause or f"exit code {code}"
        self._call(self._died, cause)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *args)

    def _receive(self, message: Answer | Ready | Unusable) -> None:
        if isinstance(message, Answer):
            self._last_sign = time.monotonic()
            self.held.pop(message.number, None)
            for numbers in self._batches:
                numbers.discard(message.number)
            self._batches = [numbers for numbers in self._batches if numbers]
            self._listener.on_answer(message)
        elif isinstance(message, Ready):
            self.ready, self._failures = True, 0
            self._listener.on_ready(message.models)
        else:
            self._listener.on_unusable(message.message)

    def _died(self, cause: str) -> None:
        if self._closing:
            return
        lost = tuple(self.held)
        loaded = self.ready
        self.ready, self.held, self._batches = False, {}, []
        self._failures += not loaded
        self._listener.on_death(lost, cause)
        self.start()


class Listener:
    """What a `Worker` calls in the event loop."""

    def on_ready(self, models: Sequence[Model]) -> None:
        """The worker has loaded the models."""

    def on_answer(self, answer: Answer) -> None:
        """The worker has answered a job."""

    def on_unusable(self, message: str) -> None:
        """The worker cannot load a model."""

    def on_death(self, lost: Sequence[int], cause: str) -> None:
        """The worker has died, with the jobs of these numbers; it is started again."""


def starter(
    sources: Sequence[ModelSource], device: str | None, threads: int
) -> Callable[[], tuple[Any, Connection]]:
    """A function that starts a worker process for a device, as `Worker` needs it."""
    context: Any = multiprocessing.get_context(_START_METHOD)

    def start() -> tuple[Any, Connection]:
        ours, theirs = context.Pipe()
        process = context.Process(
            target=run_worker, args=(theirs, sources, device, threads), daemon=True, name="worker"
        )
        process.start()
        theirs.close()
        return process, ours

    return start
