"""Loading in worker processes, with the user's mistakes reported as what they are."""

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..cores import count_cores
from ..distributed import count_processes_here
from ..errors import ProcessError, UserError
from ..launch import die_with_parent
from ..log import get_logger
from ..stopping import PASSED_ON, REQUESTS

AUTO = -1
"""The number of workers that lets `load` choose."""

_MOST_WORKERS = 16
_AHEAD = 4  # items that each worker holds ready
_TOLERATED = 0.01  # share of the records that may be unusable


class _Outcomes(Dataset[Any]):
    """What ``read`` makes of each index, or the UserError that it raised.

    An exception that crosses from a worker has the worker's traceback put into its message; a value arrives
    as it is.
    """

    def __init__(self, read: Callable[[int], Any]) -> None:
        self._read = read

    def __getitem__(self, index: int) -> Any:
        try:
            return self._read(index)
        except UserError as error:
            return error


def load(
    read: Callable[[int], dict[str, Any]], indices: Sequence[int], *, workers: int, device: torch.device
) -> Iterable[dict[str, Any] | UserError]:
    """What ``read`` makes of each of ``indices``, in their order, read ahead by worker processes.

    Args:
        read: a method of a dataset, which is sent to the processes.
        workers: processes, at most one a CPU core; 0 reads in this process, `AUTO` chooses: one beside a
            model that computes on the CPU, else an equal share of the cores for each process here.
        device: where the items go; for a GPU they come in pinned memory.

    Returns: an iterable of items; an item that can't be read comes as the UserError that says why.
    """
    cores = count_cores()
    if workers == AUTO:
        workers = 1 if device.type == "cpu" else min(_MOST_WORKERS, max(1, cores // count_processes_here()))
    workers = min(max(workers, 0), cores, len(indices))
    return DataLoader(
        _Outcomes(read),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # otherwise it draws from the one that dropout draws from
        worker_init_fn=_follow_parent,
    )


def raise_errors(items: Iterable[dict[str, Any] | UserError]) -> Iterator[dict[str, Any]]:
    """``items``, up to the first error, which is raised."""
    for item in items:
        if isinstance(item, UserError):
            raise item
        yield item


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """Inside the block, the death of a loader process is the ProcessError that says what to do.

    Torch raises in the middle of whatever this process does at that time.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        what = " ".join(str(error).split()).removesuffix(".")
        raise ProcessError(
            f"A process that loads images has died: {what}. "
            "The system does that when memory runs out: set TRAIN.workers lower, or 0."
        ) from error


class Skipped:
    """The files that one process's training goes on without, of a list of ``records``."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._messages: set[str] = set()

    def add(self, messages: Iterable[str]) -> None:
        """Log what is new. Raises: UserError if it has become more than 1 % of the records."""
        for message in messages:
            if message in self._messages:
                continue
            self._messages.add(message)
            get_logger().error("Skipped (%d so far): %s", len(self._messages), message)
            if len(self._messages) > _TOLERATED * self._records:
                raise UserError(
                    f"{len(self._messages)} of {self._records} examples can't be used, which is more than "
                    f"DATASET.on_error skip puts up with ({_TOLERATED:.0%}). The last one: {message} "
                    "To see all of them: mit-semseg data check LIST."
                )


def _follow_parent(worker: int) -> None:
    """Leave signals to the parent, which knows whether to finish a step first; end with it, however it ends.

    By itself torch's worker would stay for ever if it is handing over an item that nobody takes any more.
    """
    die_with_parent()
    for number in (*REQUESTS, *PASSED_ON.values()):
        signal.signal(number, signal.SIG_IGN)


@atexit.register  # later than multiprocessing's own, so that it runs before that
def _end_workers() -> None:
    """End what is left of workers, such as those of an iterator that a traceback holds.

    Multiprocessing would send them a SIGTERM, which they ignore, and wait for them forever.
    """
    workers = [process for process in multiprocessing.active_children() if process.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a failure
    for worker in workers:
        worker.kill()


def _as_it_is(item: Any) -> Any:
    return item
