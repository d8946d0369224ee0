"""Saving without stopping the training: a copy of the state in host memory, which a thread writes."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .tensor_trees import map_tensors


class Snapshot:
    """Copies of nested dicts and lists of tensors in host memory.

    The memory is kept from one copy to the next, since filling new memory takes three times as long. It is
    page-locked for tensors of a GPU. So a snapshot costs as much host memory as the tensors take.
    """

    def __init__(self) -> None:
        self._memory: dict[str, Tensor] = {}

    def of(self, values: dict[str, Any], name: str) -> dict[str, Any]:
        """A copy, whose tensors the next call with the same name overwrites."""
        copied: dict[str, Any] = map_tensors(values, self._copy, name)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return copied

    def _copy(self, name: str, value: Tensor) -> Tensor:
        value = value.detach()
        memory = self._memory.get(name)
        if memory is None or memory.shape != value.shape or memory.dtype != value.dtype:
            memory = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            self._memory[name] = memory
        return memory.copy_(value, non_blocking=True)


class Saver:
    """Writes in a thread, one save at a time. All methods are called in the thread of the training."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self._thread: threading.Thread | None = None
        self._then: Callable[[], None] = lambda: None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None], then: Callable[[], None] = lambda: None) -> None:
        """Start a save, after the end of the former one.

        Args:
            write: is called in the thread. It must not read what training changes: call `wait`, then take a
                snapshot for it.
            then: is called in this thread after the files are on the disk, by `poll` or `wait`.

        Raises: the error of the former save.
        """
        self.wait()
        self._then = then
        self._thread = threading.Thread(target=self._run, args=(write,), name="saving")
        self._thread.start()

    def poll(self) -> None:
        """Finish a save whose files are on the disk. Raises: its error."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait until all is on the disk. Raises: the error of the save."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
        self._then()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error


@contextmanager
def saving(saver: Saver) -> Iterator[None]:
    """After the block, nothing is being written. An error of the block precedes one of a save."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            saver.wait()
        raise
    saver.wait()
