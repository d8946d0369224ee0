"""The rank of a process, and exchanges between all processes of a run."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import ProcessError, UserError

T = TypeVar("T")

_SHOWN = 60  # characters of a value that a message quotes; a longer one is only named
_BROADCAST_BYTES = 1 << 26  # sent at a time, so that a GPU needs little memory for it


@dataclass(frozen=True)
class ProcessInfo:
    """The rank of a process in a run of ``size`` processes, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def is_first_on_machine() -> bool:
    """Whether this process is the first of those that the launcher has started on this machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def local_world_size() -> int:
    """The number of processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def sum_over_processes(values: Tensor) -> Tensor:
    """``values``, summed over all processes in place; unchanged if there is only one."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


def gather_from_processes(value: T) -> list[T]:
    """The ``value`` of each process, in the order of their ranks; it has to be picklable."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_bytes(data: bytes, source: int = 0) -> bytes | bytearray:
    """The ``data`` of the rank ``source``, in all processes; what the others pass is ignored."""
    if not (dist.is_available() and dist.is_initialized()):
        return data
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
    length = torch.tensor([len(data)], device=device)
    dist.broadcast(length, source)
    received = bytearray(data) if dist.get_rank() == source else bytearray(int(length))
    whole = torch.frombuffer(received, dtype=torch.uint8) if received else torch.empty(0, dtype=torch.uint8)
    for part in whole.split(_BROADCAST_BYTES):
        moved = part.to(device)
        dist.broadcast(moved, source)
        part.copy_(moved)
    return received


@torch.no_grad()
def broadcast_module(module: nn.Module, device: torch.device) -> None:
    """Give a module in all processes the parameters and buffers that it has in rank 0.

    Args:
        device: that of the process. The module may be on the CPU; it then needs memory of the device for one
            tensor at a time.
    """
    if dist.is_available() and dist.is_initialized():
        for tensor in (*module.parameters(), *module.buffers()):
            moved = tensor.data.to(device)
            dist.broadcast(moved, 0)
            tensor.data.copy_(moved)


def whole_tensor(value: Tensor) -> Tensor:
    """A DTensor as a tensor with all its elements; another tensor itself. All processes call it together."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def local_part(value: Tensor) -> Tensor:
    """The elements of a DTensor that this process has; another tensor itself."""
    return value.to_local() if hasattr(value, "to_local") else value


@contextmanager
def failing_together() -> Iterator[None]:
    """After the block, an error of one process ends it in all of them.

    Otherwise the others would wait for that process until their exchange times out.

    Raises: UserError in all processes, if one met a UserError; ProcessError in the others, if one met another
        error, which it raises itself.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as met:
        error = met
    mistake = str(error) if isinstance(error, UserError) else ""
    failure = "" if error is None or mistake else f"{type(error).__name__}: {error}"
    outcomes = gather_from_processes((mistake, failure))
    if error is not None and not mistake:
        raise error
    mistakes = dict.fromkeys(mistake for mistake, _ in outcomes if mistake)
    if mistakes:
        raise UserError("\n".join(mistakes)) from error
    for rank, (_, failure) in enumerate(outcomes):
        if failure:
            raise ProcessError(f"Process {rank} failed: {failure}")


def require_equal(values: Mapping[str, Any], what: str) -> None:
    """Refuse to continue if processes have different values, such as on machines with different files.

    Args:
        values: of this process, by the names that a user knows them under.
        what: completes "process 1 does not ... as process 0", such as "train the same run".

    Raises: UserError, the same in all processes, that names what differs from rank 0.
    """
    (first_host, first), *others = gather_from_processes((socket.gethostname(), dict(values)))
    for rank, (host, theirs) in enumerate(others, 1):
        differences = [
            f"{name} differs"
            if max(len(str(value)), len(str(theirs.get(name)))) > _SHOWN
            else f"{name} is {theirs.get(name)} there, {value} in process 0"
            for name, value in first.items()
            if theirs.get(name) != value
        ]
        if differences:
            raise UserError(
                f"Process {rank} on {host} does not {what} as process 0 on {first_host}: "
                f"{'; '.join(differences)}. Start all machines with the same config and files."
            )
