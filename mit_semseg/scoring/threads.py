"""Small pieces of work spread over threads, each of which computes alone."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

_AHEAD = 2  # pieces that wait for each thread; what they read is held in memory


def for_each(work: Callable[..., None], pieces: Iterable[tuple[Any, ...]], *, threads: int) -> None:
    """Call ``work(*piece)`` for each of ``pieces``, which this thread makes, in inference mode.

    Torch's own threads wait for one another after each operation. On operations of a millisecond that costs
    more than it gains as soon as something else runs on a core; threads that meet only at the end do not
    mind.

    Raises: the first error of a piece.
    """
    if threads == 1:
        for piece in pieces:
            work(*piece)
        return

    def alone(*piece: Any) -> None:
        with torch.inference_mode():  # which is a thread's own, too
            work(*piece)

    waiting: deque[Future[None]] = deque()
    # In the new threads, not in this one. The number of them that the BLAS takes is the process's: it is set
    # back below.
    pool = ThreadPoolExecutor(threads, "scoring", initializer=torch.set_num_threads, initargs=(1,))
    try:
        with pool:
            for piece in pieces:
                waiting.append(pool.submit(alone, *piece))
                if len(waiting) > threads * (1 + _AHEAD):
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)
