"""A function over many jobs in several processes, where a job that kills or blocks its process is only lost.

The pools of the standard library end as a whole when one process dies, without a word about the job.
"""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from ...errors import ProcessError

Job = TypeVar("Job")
Result = TypeVar("Result")
Mark = Callable[[int], None]

PATIENCE = 120.0
"""Seconds that a job may take until its process is taken to hang."""

_CHUNK = 8  # jobs that a process gets at a time: enough to hide the way there and back
_MOST_DEATHS = 3  # processes that may die before any has done a single job


@dataclass(frozen=True, slots=True)
class Death:
    """In place of a job's result: how its process ended."""

    mark: int
    """What the job had last marked; 0 before."""
    hung: bool
    """Whether it was ended because it took too long."""
    how: str
    """In words, such as "ended by signal 11"."""


def run_guarded(
    function: Callable[[Job, Mark], Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    patience: float = PATIENCE,
) -> Iterator[tuple[int, Result | Death]]:
    """The number of each job, from 0, and its result, in the order in which they are done.

    Args:
        function: called with a job and a function that takes a whole number, the mark; must be importable,
            and should not raise, which ends its process.
        jobs: drawn a few at a time, so they may be many.
        workers: processes, started as they are needed; 0 runs the jobs in this one, unguarded.
        patience: seconds that a job may take.

    Raises: ProcessError if processes die from the start.
    """
    numbered = enumerate(jobs)
    if not workers:
        for number, job in numbered:
            yield number, function(job, _ignore)
        return
    left: deque[tuple[int, Job]] = deque()  # what a dead process had not begun
    team: list[_Worker[Job]] = []
    done = deaths = 0

    def take() -> list[tuple[int, Job]]:
        chunk = [left.popleft() for _ in range(min(_CHUNK, len(left)))]
        return chunk or list(islice(numbered, _CHUNK))

    try:
        while True:
            while len(team) < workers and (chunk := take()):
                team.append(_Worker(function, chunk))
            if not team:
                return
            ready = wait([worker.connection for worker in team], timeout=min(1.0, patience / 4))
            now = time.monotonic()  # taken here, because whoever gets the results below may take his time
            for worker in list(team):
                if worker.connection in ready and (answer := worker.answer()):
                    done += 1
                    yield worker.waiting.popleft()[0], answer[0]
                    worker.heard = time.monotonic()
                    if worker.waiting or ((chunk := take()) and worker.give(chunk)):
                        continue
                    team.remove(worker)
                    worker.stop()
                elif worker.connection in ready or now - worker.heard > patience:
                    hung = worker.connection not in ready
                    team.remove(worker)
                    how = worker.stop(patience if hung else None)
                    number, _ = worker.waiting.popleft()
                    left.extendleft(reversed(worker.waiting))
                    deaths += 1
                    if deaths >= _MOST_DEATHS and not done:
                        raise ProcessError(f"The processes that read the files end at once ({how}).")
                    yield number, Death(worker.stage.value, hung, how)
    finally:
        for worker in team:
            worker.stop(0)


@dataclass
class _Worker(Generic[Job]):
    """A process, the jobs it has been given and not answered, and the way to it."""

    function: Callable[[Job, Mark], Any]
    chunk: list[tuple[int, Job]]
    waiting: deque[tuple[int, Job]] = field(default_factory=deque)
    heard: float = 0

    def __post_init__(self) -> None:
        context = get_context("spawn")  # a forked process would inherit locks and the pipes of the others
        self.connection, theirs = context.Pipe()
        self.stage: Any = context.RawValue("i", 0)
        self.process: BaseProcess = context.Process(
            target=_serve, args=(self.function, theirs, self.stage), daemon=True
        )
        self.process.start()
        theirs.close()  # so that only the process holds that end, and its death is seen
        self.give(self.chunk)

    def give(self, chunk: list[tuple[int, Job]]) -> bool:
        """Hands over jobs. True, even if the process is dead, which the next answer tells."""
        self.waiting.extend(chunk)
        self.heard = time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.send([job for _, job in chunk])
        return True

    def answer(self) -> tuple[Any] | None:
        """The next result, None if the process is dead."""
        try:
            return (self.connection.recv(),)
        except (EOFError, OSError):
            return None

    def stop(self, patience: float | None = None) -> str:
        """Ends the process, by force if ``patience`` is given, and says how it ended."""
        self.connection.close()
        if patience is not None:
            self.process.kill()
        self.process.join(10)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        if patience:
            return f"nothing for {patience:g} seconds"
        if code is not None and code < 0:
            memory = ", maybe for want of memory" if -code == signal.SIGKILL else ""
            return f"ended by signal {-code}{memory}"
        return f"ended with exit code {code}"


def _serve(function: Callable[[Any, Mark], Any], connection: Connection, stage: Any) -> None:
    """What a process does: jobs in, results out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this one

    def mark(value: int) -> None:
        stage.value = value

    with contextlib.suppress(EOFError, OSError):  # the parent is done, or gone
        while True:
            for job in connection.recv():
                stage.value = 0
                connection.send(function(job, mark))


def _ignore(value: int) -> None:
    pass
