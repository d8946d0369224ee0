"""Sending items from a loader process: tensors through anonymous memory, the rest through a pipe.

Torch would put tensors into /dev/shm, which has only 64 MB in a container by default. If it is full, torch
loses the item: a background thread prints the error, and the receiver waits forever.
"""

import mmap
import os
import sys
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.queues import Queue
from typing import Any, NoReturn

import numpy as np
import torch
from torch import UntypedStorage


def send_safely() -> None:
    """Make this worker process send tensors without /dev/shm, and end if an item cannot be sent.

    The parent notices the end of a worker at once.
    """
    if hasattr(os, "memfd_create"):  # on Linux; other systems have no such limit
        reduction.ForkingPickler.register(UntypedStorage, _reduce)
    setattr(Queue, "_on_queue_feeder_error", staticmethod(_end))  # noqa: B010  mypy refuses an assignment


def _reduce(storage: UntypedStorage) -> tuple[Callable[..., UntypedStorage], tuple[Any, ...]]:
    """Pickle the memory of a tensor: a function that the receiver calls, and its arguments."""
    content = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    if not content.nbytes:
        return _copied, (content,)
    try:
        # Such a file is in no folder. Only the memory limits its size.
        handle = os.memfd_create("item of a loader")
        try:
            rest = memoryview(content.data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            return _mapped, (reduction.DupFd(handle), content.nbytes)
        finally:
            os.close(handle)
    except OSError:  # such as too many open files
        return _copied, (content,)


def _mapped(handle: Any, length: int) -> UntypedStorage:
    descriptor = handle.detach()
    try:
        memory = mmap.mmap(descriptor, length)
    finally:
        os.close(descriptor)
    return torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()


def _copied(content: np.ndarray) -> UntypedStorage:
    return torch.from_numpy(content).untyped_storage()


def _end(error: Exception, item: object) -> NoReturn:
    sys.stderr.write(f"A loaded item could not be sent: {type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(1)
