"""Threads that help a loop: one prefetches its items, one writes its results, several compute in parallel.

`one_thread` does without torch's own.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_END: Any = object()


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block, torch computes in the calling thread alone.

    For operations on single images, which gain little from more threads. Idle threads would spin for a while,
    waiting for more work, and slow down other processes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def prefetch(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Yield ``items``, while another thread makes up to ``depth`` of them in advance."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, "prefetch") as pool:
        pending = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, iterator, _END))
                yield item
        finally:
            for future in pending:
                future.cancel()


class BackgroundWriter:
    """A thread that runs calls one after the other.

    As a context manager it waits at the end until all calls are done. After an error in the block, calls that
    have not begun are dropped.

    Args:
        depth: how many calls may wait. `submit` blocks while that many do.
    """

    def __init__(self, depth: int) -> None:
        self._pool = ThreadPoolExecutor(1, "writer")
        self._depth = depth
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, write: Callable[..., None], *args: Any) -> None:
        """Have the thread call ``write(*args)``.

        Raises: the first error of an earlier call; the end of the block raises it, too.
        """
        if len(self._pending) == self._depth:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(write, *args))


def map_single_threaded(
    work: Callable[..., T], pieces: Iterable[tuple[Any, ...]], *, threads: int, depth: int
) -> Iterator[T]:
    """``work(*piece)`` for each of ``pieces``, in their order; torch computes each piece with one thread.

    Torch's own threads wait for each other after each operation. For operations of a millisecond, that costs
    more than it gains as soon as something else runs on a core. Threads with a piece each wait only at the
    end. Besides, the rounding of a piece does not depend on the number of threads.

    Args:
        pieces: made by the calling thread.
        threads: how many pieces are computed at a time; 1 computes in the calling thread.
        depth: how many pieces wait for each thread. Their arguments are held in memory.

    Raises: the first error of a piece.
    """
    if threads == 1:
        for piece in pieces:
            yield work(*piece)
        return

    def compute(*piece: Any) -> T:
        with torch.inference_mode():  # every thread has its own mode
            return work(*piece)

    pending: deque[Future[T]] = deque()
    # The initializer sets torch's number of threads for the new threads only. But BLAS has one number for the
    # whole process, so it is restored below.
    pool = ThreadPoolExecutor(threads, "single-threaded", initializer=torch.set_num_threads, initargs=(1,))
    try:
        with pool:
            for piece in pieces:
                pending.append(pool.submit(compute, *piece))
                if len(pending) > threads * (1 + depth):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(threads)
