"""Work in a thread ahead of a loop, and in one behind it."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


def ahead(items: Iterable[T], most: int) -> Generator[T, None, None]:
    """``items``, made by a thread of their own, up to ``most`` of them before they are asked for."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, "ahead") as pool:
        waiting = deque(pool.submit(next, iterator, _END) for _ in range(most))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, iterator, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()


class Behind:
    """A thread that does what it is given, one after the other.

    As a context manager it waits at the end until all is done. After an error in the block, what has not
    begun is dropped.

    Args:
        most: calls that may wait; a further one has to wait for the first of them.
    """

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(1, "behind")
        self._most = most
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> "Behind":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def do(self, work: Callable[..., None], *args: Any) -> None:
        """Have ``work(*args)`` called. Raises: the first error of an earlier call, now or at the end."""
        if len(self._waiting) == self._most:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(work, *args))
