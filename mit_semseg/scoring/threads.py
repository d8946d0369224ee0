"""Pieces of work spread over threads, each of which computes alone."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def each_alone(
    work: Callable[..., T], pieces: Iterable[tuple[Any, ...]], *, threads: int, ahead: int
) -> Iterator[T]:
    """``work(*piece)`` for each of ``pieces``, which this thread makes; the results in their order.

    Torch's own threads wait for one another after each operation. On operations of a millisecond that costs
    more than it gains as soon as something else runs on a core; threads that meet only at the end do not
    mind. A piece is also rounded alike, however many threads there are.

    Args:
        threads: 1 stands for this one.
        ahead: pieces that wait for each thread; what they read is held in memory.

    Raises: the first error of a piece.
    """
    if threads == 1:
        for piece in pieces:
            yield work(*piece)
        return

    def alone(*piece: Any) -> T:
        with torch.inference_mode():  # which is a thread's own, too
            return work(*piece)

    waiting: deque[Future[T]] = deque()
    # In the new threads, not in this one. The number of them that the BLAS takes is the process's: it is set
    # back below.
    pool = ThreadPoolExecutor(threads, "scoring", initializer=torch.set_num_threads, initargs=(1,))
    try:
        with pool:
            for piece in pieces:
                waiting.append(pool.submit(alone, *piece))
                if len(waiting) > threads * (1 + ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)
