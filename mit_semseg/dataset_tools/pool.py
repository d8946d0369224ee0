"""A function applied to many jobs in several processes. A job that kills or blocks its process is named.

Only the result of that job is lost. concurrent.futures would not save code here: if one process dies, its
executor breaks as a whole, without naming the job or how the process ended. Before Python 3.14 it cannot end
a process that hangs, and it waits forever if Ctrl-C arrives while it starts a process.
"""

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from ..errors import ProcessError, UserError
from ..runtime.log import ignore_decoder_warnings

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
Mark = Callable[[int], None]

PATIENCE = 120.0
"""Seconds that a job may take before its process is ended."""

_CHUNK = 8  # jobs sent to a process at a time: enough to hide the round trip
_MOST_DEATHS = 3  # processes that may die before any job is done
_SIGKILL = 9  # signal.SIGKILL, which Windows lacks
_GRACE = 10.0  # seconds in which a process may finish its job before it is killed, and then to disappear


@dataclass(frozen=True, slots=True)
class WorkerDeath:
    """Takes the place of a job's result: how its process ended."""

    mark: int
    """The last mark that the job set; 0 if it set none."""
    hung: bool
    """Whether it was ended because it took too long."""
    how: str
    """In words, such as "killed by signal 11"."""


def run_guarded(
    function: Callable[[_Job, Mark], _Result],
    jobs: Iterable[_Job],
    *,
    workers: int,
    patience: float = PATIENCE,
) -> Generator[tuple[int, _Result | WorkerDeath], None, None]:
    """Yields the number of each job, from 0, and its result, as they are done.

    Closing the generator lets the processes finish their current job, then ends them.

    Args:
        function: called with a job and a function that sets a mark, a whole number. It is pickled once for
            each process. A UserError that it raises is raised here; another exception ends its process.
        jobs: drawn a few at a time, so there may be many.
        workers: number of processes, started when they are needed; 0 runs the jobs here, unguarded.
        patience: seconds that a job may take.

    Raises: ProcessError if the first processes die before any job is done.
    """
    numbered = enumerate(jobs)
    if not workers:
        for number, job in numbered:
            yield number, function(job, _ignore)
        return
    returned: deque[tuple[int, _Job]] = deque()  # jobs that a dead process had not begun
    team: list[_Worker[_Job]] = []
    done = deaths = 0

    def take() -> list[tuple[int, _Job]]:
        chunk = [returned.popleft() for _ in range(min(_CHUNK, len(returned)))]
        return chunk or list(islice(numbered, _CHUNK))

    try:
        while True:
            while len(team) < workers and (chunk := take()):
                team.append(_Worker(function, chunk))
            if not team:
                return
            ready = wait([worker.connection for worker in team], timeout=min(1.0, patience / 4))
            now = time.monotonic()  # read before the results are yielded, because the caller may be slow
            for worker in list(team):
                if worker.connection in ready and (answer := worker.answer()):
                    if isinstance(answer[0], UserError):
                        raise answer[0]
                    done += 1
                    yield worker.waiting.popleft()[0], answer[0]
                    worker.last_answer = time.monotonic()
                    if worker.waiting:
                        continue
                    if chunk := take():
                        worker.give(chunk)
                        continue
                    team.remove(worker)
                    worker.stop()
                elif worker.connection in ready or now - worker.last_answer > patience:
                    hung = worker.connection not in ready
                    team.remove(worker)
                    how = worker.stop(0)
                    if hung:
                        how = f"no result within {patience:g} seconds"
                    number, _ = worker.waiting.popleft()
                    returned.extendleft(reversed(worker.waiting))
                    deaths += 1
                    if deaths >= _MOST_DEATHS and not done:
                        raise ProcessError(
                            f"The worker processes end before they finish a single file ({how}). "
                            f"If memory is short, use fewer of them: --workers 1."
                        )
                    yield number, WorkerDeath(worker.mark.value, hung, how)
    finally:
        deadline = time.monotonic() + _GRACE
        for worker in team:
            worker.connection.close()  # first all of them, so that they end at the same time
        for worker in team:
            worker.stop(max(0.0, deadline - time.monotonic()))


@dataclass
class _Worker(Generic[_Job]):
    """A process, the connection to it, and the jobs that it has not answered yet."""

    function: Callable[[_Job, Mark], Any]
    chunk: list[tuple[int, _Job]]
    waiting: deque[tuple[int, _Job]] = field(default_factory=deque)
    last_answer: float = 0

    def __post_init__(self) -> None:
        context = get_context("spawn")  # a forked process would inherit locks and the pipes of the others
        self.connection, theirs = context.Pipe()
        self.mark: Any = context.RawValue("i", 0)
        self.process: BaseProcess = context.Process(
            target=_serve, args=(self.function, theirs, self.mark), daemon=True
        )
        with _interrupts_held_back():
            self.process.start()
        theirs.close()  # now the process alone holds that end, so its death closes the pipe
        self.give(self.chunk)

    def give(self, chunk: list[tuple[int, _Job]]) -> None:
        """Sends jobs. If the process is dead, the next `answer` reports it."""
        self.waiting.extend(chunk)
        self.last_answer = time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.send([job for _, job in chunk])

    def answer(self) -> tuple[Any] | None:
        """The next result, or None if the process is dead."""
        try:
            return (self.connection.recv(),)
        except (EOFError, OSError):
            return None

    def stop(self, grace: float = _GRACE) -> str:
        """Ends the process, by force if it is still there after ``grace`` seconds, and says how it ended."""
        self.connection.close()
        self.process.join(grace)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join(_GRACE)  # limited: a process that waits for a dead disk cannot be killed
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"killed by signal {-code}" + (", possibly out of memory" if -code == _SIGKILL else "")
        return f"exited with code {code}"


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A process started in the block never gets Ctrl-C; this process gets it when the block ends.

    A terminal sends Ctrl-C to all processes. This one ends the others.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield  # Windows, or a thread that Python never interrupts
        return
    caught: list[int] = []
    # The new process inherits the mask. The handler is for this one, whose other threads may get the signal.
    former = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, former)
        if caught and callable(former):
            former(signal.SIGINT, None)


def _serve(function: Callable[[Any, Mark], Any], connection: Connection, mark: Any) -> None:
    """The loop of a process: receives jobs and sends results until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be held back
    ignore_decoder_warnings()

    def set_mark(value: int) -> None:
        mark.value = value

    with contextlib.suppress(EOFError, OSError):  # the parent has closed the connection, or is gone
        while True:
            for job in connection.recv():
                mark.value = 0
                answer: Any
                try:
                    answer = function(job, set_mark)
                except UserError as error:
                    answer = error
                connection.send(answer)


def _ignore(value: int) -> None:
    pass
