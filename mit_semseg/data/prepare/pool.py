"""The same work for many examples, on all cores."""

import multiprocessing
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from ...cores import count_cores
from ...errors import UserError
from .convert import Done, Job, convert
from .release import Example

_FEW = 64  # examples that are done before other processes have started
_CHUNK = 8

_job: Job | None = None  # of a process of the pool


def convert_all(
    job: Job, examples: Sequence[Example], workers: int | None = None
) -> Generator[Done, None, None]:
    """`convert` of each example, in their order.

    Args:
        workers: processes; 0: only this one. None: one a core that this one may use, or 0 for few examples.

    Raises: UserError if the disk refuses, or a process has died.
    """
    if workers is None:
        workers = 0 if len(examples) < _FEW else count_cores()
    if workers == 0:
        yield from (convert(job, example) for example in examples)
        return
    # Started anew, not forked: a fork copies the locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C, which a terminal sends to all of them, is for this process alone: it ends the pool.
    pool = ProcessPoolExecutor(min(workers, len(examples) or 1), context, _start, (job,))
    try:
        with _interrupts_held_back():
            results = pool.map(_convert, examples, chunksize=_CHUNK)
        yield from results
    except BrokenProcessPool:
        raise UserError(
            "A process ended before its work was done; most often memory is short. Use fewer: --workers 1."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """For the time in which processes are started: they never get Ctrl-C, and this one gets it afterwards.

    A pool that is interrupted while it starts a process would wait for that process for ever.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield  # Windows, or a thread that gets no interrupts
        return
    caught: list[int] = []
    # The mask is what the processes inherit. Here it is not enough, since other threads may get the signal.
    former = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, former)
        if caught and callable(former):
            former(signal.SIGINT, None)


def _start(job: Job) -> None:
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be held back


def _convert(example: Example) -> Done:
    assert _job is not None
    return convert(_job, example)
