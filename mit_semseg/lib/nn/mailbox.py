"""Rows of numbers exchanged between the processes of one machine through shared memory.

A synchronized layer exchanges a few kilobytes twice per step. Over sockets that takes about half a
millisecond, because every message wakes several threads. A process that polls a flag in shared memory sees a
change at once.
"""

import os
import platform
import secrets
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

_FOLDER = Path("/dev/shm")
_CAPACITY = 2**16  # bytes of a process's rows; wider layers use sockets
_WATCH_S = 0.002  # a peer is usually this close; polling without a pause finds it at once
_NAP_S = 0.0001  # then leave the processor to others, such as the peer's data loading
_CHECK_S = 0.1  # how often to check that the peers are still running


class Mailbox:
    """One message slot for each rank of the default process group; all ranks exchange at the same time.

    There are slots for two rounds. A rank that writes round n has seen all ranks arrive at round n - 1, so
    all have read round n - 2, and its slot is free.

    Args:
        memory: `_size` bytes of shared memory, all zero at the start.
        timeout_s: how long a rank may be late.
    """

    def __init__(self, memory: np.ndarray, rank: int, ranks: int, timeout_s: float) -> None:
        flags, pids, rows = np.split(memory, np.cumsum([2 * ranks * 64, ranks * 8]))
        # One cache line per rank, so that the writes of one do not slow down the polling of another.
        lines = flags.view(np.int64).reshape(2, ranks, 8)
        self._flags, self._sizes = lines[:, :, 0], lines[:, :, 1]
        self._pids = pids.view(np.int64)
        self._rows = rows.reshape(2, ranks, _CAPACITY)
        self._rank = rank
        self._timeout_s = timeout_s
        self._round = 0
        self._pids[rank] = os.getpid()

    @staticmethod
    def between_ranks() -> "Mailbox | None":
        """One for the ranks of the default process group, or None if they do not share memory.

        All ranks call it together. Even a killed process leaves nothing behind, because the file never has a
        name.
        """
        rank, ranks = dist.get_rank(), dist.get_world_size()
        file = _create(_size(ranks)) if rank == 0 and has_shared_memory() else None
        where = [None if file is None else _Where.of(file)]
        dist.broadcast_object_list(where, src=0)
        if where[0] is None:
            return None
        memory = where[0].open(_size(ranks))
        box = None if memory is None else Mailbox(memory, rank, ranks, _timeout_of_group())
        dist.barrier()
        if file is not None:
            file.close()
        together = torch.tensor(int(box is not None and box.missing() is None))
        dist.all_reduce(together, dist.ReduceOp.MIN)
        return box if together else None

    def takes(self, rows: Tensor) -> bool:
        known = rows.dtype in (torch.float32, torch.float64)
        return known and rows.device.type == "cpu" and rows.nbytes <= _CAPACITY

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (n, k) of all ranks, (ranks * n, k), in the order of ranks; n and k are the same for all.

        Raises: DistError if a rank has ended or does not arrive in time; RuntimeError, on all ranks, if their
            rows differ in size.
        """
        self._round += 1
        place = self._round % 2
        flags, sizes, slots = self._flags[place], self._sizes[place], self._rows[place]
        sizes[self._rank] = rows.nbytes
        slots[self._rank, : rows.nbytes] = rows.contiguous().numpy().reshape(-1).view(np.uint8)
        flags[self._rank] = self._round  # after the rows, because a rank that sees the flag reads them
        self._await(flags)
        if (sizes != rows.nbytes).any():
            raise RuntimeError(
                f"The ranks are at different synchronized layers: they send {sizes.tolist()} bytes. In "
                "training all ranks must call the same layers in the same order, forward and backward."
            )
        everyone = torch.from_numpy(slots[:, : rows.nbytes].copy())
        return everyone.view(-1).view(rows.dtype).view(-1, rows.size(1))

    def _await(self, flags: np.ndarray) -> None:
        start = checked = time.monotonic()
        while flags.min() < self._round:
            now = time.monotonic()
            if now - start < _WATCH_S:
                os.sched_yield()  # a no-op, unless there are more processes than processors
                continue
            time.sleep(_NAP_S)
            if now - checked < _CHECK_S:
                continue
            checked = now
            missing = self.missing()
            if missing is not None and flags[missing] < self._round:
                raise dist.DistError(f"Rank {missing} ended while rank {self._rank} was waiting for it.")
            if now - start > self._timeout_s:
                late = np.flatnonzero(flags < self._round).tolist()
                raise dist.DistError(
                    f"Rank {self._rank} waited {self._timeout_s:g} s for rank "
                    f"{', '.join(map(str, late))} at a synchronized layer."
                )

    def missing(self) -> int | None:
        """The first rank whose process has ended, or None."""
        for rank, pid in enumerate(self._pids.tolist()):
            if pid and not _is_running(pid):  # 0 until the rank has started
                return rank
        return None


class _Where(NamedTuple):
    """How to reach a file that one process of this machine has open."""

    path: str
    secret: bytes
    """The last bytes of the file, because on another machine the path may lead to any other file."""

    @staticmethod
    def of(file: IO[bytes]) -> "_Where":
        secret = secrets.token_bytes(16)
        file.seek(0, os.SEEK_END)
        file.write(secret)
        return _Where(f"/proc/{os.getpid()}/fd/{file.fileno()}", secret)

    def open(self, size: int) -> np.ndarray | None:
        """Its memory, or None on another machine or in another container."""
        try:
            found = Path(self.path).stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size != size + len(self.secret):
                return None
            with Path(self.path).open("r+b", buffering=0) as file:
                file.seek(size)
                if file.read() != self.secret:
                    return None
                return np.asarray(np.memmap(file, np.uint8, "r+", shape=(size,)))
        except (OSError, ValueError):
            return None


def _timeout_of_group() -> float:
    """How long a collective of the default process group may take, in seconds."""
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    backend = getattr(backend, "wrapped_pg", backend)  # with TORCH_DISTRIBUTED_DEBUG=DETAIL
    return float(backend.options._timeout.total_seconds())


def _is_running(pid: int) -> bool:
    """Whether a process is running. A zombie, which has ended, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _size(ranks: int) -> int:
    return 2 * ranks * 64 + ranks * 8 + 2 * ranks * _CAPACITY


def has_shared_memory() -> bool:
    """Whether a process on this platform sees another's writes in the order in which they were made."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _create(size: int) -> IO[bytes] | None:
    """A file of zeros in memory, without a name; None if there is no room for it."""
    try:
        file = tempfile.TemporaryFile(dir=_FOLDER, buffering=0)  # noqa: SIM115  the caller closes it
    except OSError:
        return None
    try:
        # Otherwise a write would kill the process when memory runs out.
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        file.close()
        return None
    return file
