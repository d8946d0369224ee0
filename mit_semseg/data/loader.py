"""Loading of data in worker processes, and the limit for files that are skipped."""

import atexit
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from ..errors import ProcessError, UserError
from ..runtime.agent import die_with_parent
from ..runtime.distributed import local_world_size
from ..runtime.log import get_logger, ignore_decoder_warnings
from ..runtime.machine import cpu_count, shared_memory
from ..runtime.stopping import ignore_stop_signals
from .sending import send_safely

AUTO = -1
"""As a number of workers: `loading` chooses."""

_MAX_WORKERS = 16
_PREFETCH = 4  # items that each worker reads ahead
_MAX_SKIPPED = 0.01  # as a share of the records
# Seconds for the workers to end by themselves: they have nothing to lose, and docker stop waits 10.
_END_S = 2.0
_KILLED_S = 20.0  # seconds for the system to free the memory of killed ones
_SLOW_S = 300.0  # seconds without an item after which a line is logged
# Seconds without an item after which the workers count as hung; a slow disk may need minutes.
_HUNG_S = 3600.0


class _Outcomes(Dataset[Any]):
    """The result of ``read`` for each index, or the UserError that it raised.

    Errors are returned, because torch adds the worker's traceback to the message of a raised one.
    """

    def __init__(self, read: Callable[[int], Any]) -> None:
        self._read = read

    def __getitem__(self, index: int) -> Any:
        try:
            return self._read(index)
        except UserError as error:
            return error


@contextmanager
def loading(
    read: Callable[[int], dict[str, Any]], indices: Sequence[int], *, workers: int, device: torch.device
) -> Iterator[Iterator[dict[str, Any] | UserError]]:
    """Inside the block, worker processes call ``read`` for each of ``indices`` and read ahead.

    The workers end with the block. The block has to cover all use of the items, because torch raises the
    error for a dead worker at an arbitrary point of the main thread.

    Args:
        read: a method of a dataset. It is sent to the workers.
        workers: number of processes, at most one for each CPU core. 0 reads in this process. `AUTO` chooses:
            one if the model computes on the CPU, otherwise this process's share of the cores.
        device: where the items go; for a GPU they come in pinned memory.

    Yields: an iterator over the items, in the order of ``indices``; for an item that cannot be read, the
        UserError that says why.
    Raises: ProcessError if workers cannot be started, if one dies or cannot send an item, or if all of them
        together bring no item for an hour.
    """
    cores = cpu_count()
    if workers == AUTO:
        workers = 1 if device.type == "cpu" else min(_MAX_WORKERS, max(1, cores // local_world_size()))
    workers = min(max(workers, 0), cores, len(indices))
    loader = DataLoader(
        _Outcomes(read),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=_PREFETCH if workers else None,
        collate_fn=_identity,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # by default it draws from the generator that dropout uses
        worker_init_fn=_begin_worker,
    )
    items: Any = _start(loader)
    owner, ended = os.getpid(), not workers

    def end() -> None:
        nonlocal ended
        if not ended and os.getpid() == owner:  # a forked process inherits this handler, but not the workers
            _end_workers(items)
            ended = True

    # At exit, a suspended generator may still be in this block. Multiprocessing would send the workers a
    # SIGTERM, which they ignore, and wait for them without a limit. This handler runs before that one, which
    # was registered earlier.
    atexit.register(end)
    watch = _Watch(items._workers if workers else ())
    try:
        with watch:
            yield watch.over(items)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        if watch.has_ended_workers:
            raise ProcessError(
                f"No data has arrived for {_HUNG_S / 60:.0f} minutes, so the processes that load it were "
                "ended. They were running, but a file could not be read or a transform did not end."
            ) from error
        raise ProcessError(
            f"A process that loads data has died: {' '.join(str(error).split()).removesuffix('.')}. "
            "Most often the machine has run out of memory: lower TRAIN.workers, or set it to 0."
        ) from error
    finally:
        end()
        atexit.unregister(end)


def raise_errors(items: Iterable[dict[str, Any] | UserError]) -> Iterator[dict[str, Any]]:
    """The items, up to the first error. That error is raised."""
    for item in items:
        if isinstance(item, UserError):
            raise item
        yield item


class Skipped:
    """The unusable files that the training in one process has skipped.

    Args:
        records: number of records in the list.
    """

    def __init__(self, records: int) -> None:
        self._records = records
        self._limit = max(1, int(_MAX_SKIPPED * records))
        self._messages: set[str] = set()

    def add(self, messages: Iterable[str]) -> None:
        """Log new messages.

        Raises: UserError if there are more than 1 % of the records, and more than one.
        """
        for message in messages:
            if message in self._messages:
                continue
            self._messages.add(message)
            get_logger().error("Skipped (%d so far): %s", len(self._messages), message)
            if len(self._messages) > self._limit:
                raise UserError(
                    f"{len(self._messages)} of {self._records} examples cannot be used. "
                    f"DATASET.on_error skip allows {self._limit}: {_MAX_SKIPPED:.0%} of the list, at least "
                    f"one. The last one: {message} To see all of them: mit-semseg data check LIST."
                )


def _begin_worker(worker: int) -> None:
    """Leave stop signals to the parent process, and end when it ends, for any reason.

    Without this, a worker would wait forever to hand over an item that nobody takes.
    """
    die_with_parent()
    ignore_stop_signals()
    ignore_decoder_warnings()
    send_safely()


def _start(loader: DataLoader[Any]) -> Any:
    """The iterator of a DataLoader, whose workers have been started."""
    try:
        return iter(loader)
    except OSError as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if isinstance(unfinished := frame.f_locals.get("self"), _MultiProcessingDataLoaderIter):
                _abandon(unfinished)
        raise ProcessError(
            f"The processes that load data can't be started: {error.strerror or error}. {shared_memory()}"
            "Set TRAIN.workers lower, or to 0 to load in the process itself."
        ) from error


def _abandon(unfinished: Any) -> None:
    """End the workers of an iterator that could not start all of them.

    Its destructor would fail, and at its exit the program would wait for the workers without a limit.
    """
    unfinished._shutdown = True
    for worker in getattr(unfinished, "_workers", ()):
        worker.kill()
        worker.join(_KILLED_S)


class _Watch:
    """Notices workers that are running but bring no data, such as from a network disk that hangs.

    Inside the block, a thread logs a long wait, and ends the workers after a very long one. Torch then raises
    an error in the waiting thread.
    """

    def __init__(self, workers: Sequence[Any]) -> None:
        self.has_ended_workers = False
        self._workers = workers
        self._waits_since: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch over the workers", daemon=True)

    def __enter__(self) -> None:
        if self._workers:
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def over(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items. The time in which a caller waits for one counts."""
        while True:
            self._waits_since = time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._waits_since = None
            yield item

    def _run(self) -> None:
        logged: float | None = None
        while not self._over.wait(min(10.0, _HUNG_S / 4)):
            since = self._waits_since
            if since is None:
                continue
            waited = time.monotonic() - since
            if waited > _HUNG_S:
                self.has_ended_workers = True
                for worker in self._workers:
                    worker.kill()
                return
            if waited > _SLOW_S and logged != since:
                logged = since
                get_logger().warning(
                    "No data has arrived for %.0f minutes. The processes that load it are running, so the "
                    "disk of the dataset may be slow. They will be ended after %.0f minutes.",
                    *(waited / 60, _HUNG_S / 60),
                )


def _end_workers(items: Any) -> None:
    """End the workers of a DataLoader's iterator, even if a traceback still holds the iterator.

    Its destructor would come too late: workers ignore SIGTERM, and may wait to hand over an item.
    """
    # In a thread, to limit the wait. Torch joins its thread that pins memory, and that one waits forever for
    # the rest of a message if a worker has died while sending it.
    ending = threading.Thread(target=items._shutdown_workers, name="end of the workers", daemon=True)
    ending.start()
    ending.join(_END_S)
    if items._worker_pids_set:  # torch's SIGCHLD handler must not report the workers killed below
        torch.utils.data._utils.signal_handling._remove_worker_pids(id(items))
        items._worker_pids_set = False
    for worker in items._workers:
        worker.kill()
    # The thread waits for them too. Of two threads that wait for one process, one may miss its end.
    ending.join(_END_S)
    for worker in items._workers:
        worker.join(_KILLED_S)


def _identity(item: Any) -> Any:
    return item
