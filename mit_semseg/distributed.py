"""The devices there are, the place of a process among others, and sums over all processes."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a process stands among the processes of a run: process ``rank`` of ``size``, on ``device``."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def parse_devices(input_devices: str) -> list[str]:
    """The devices that a text names, without repeats: ``"0-1,gpu4"`` is gpu0, gpu1, gpu4; ``"cpu"`` is cpu.

    Raises: UserError for any other text.
    """
    devices: list[str] = []
    for part in input_devices.lower().replace(" ", "").split(","):
        if part == "cpu":
            devices.append("cpu")
            continue
        match = re.fullmatch(r"(?:gpu)?(\d{1,4})(?:-(?:gpu)?(\d{1,4}))?", part)
        if match is None:
            raise UserError(
                f"'{input_devices}' names no devices. Write GPU numbers such as 0-3, 0,2 or gpu1, or cpu."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        devices += [f"gpu{i}" for i in range(min(first, last), max(first, last) + 1)]
    devices = list(dict.fromkeys(devices))
    if "cpu" in devices and len(devices) > 1:
        raise UserError(f"'{input_devices}' mixes the CPU with GPUs. Name either.")
    return devices


def find_devices(text: str | None, processes: int | None = None) -> list[torch.device]:
    """The devices that ``--gpus`` names, or without it all GPUs, or else the CPU.

    Args:
        processes: how often the CPU stands in the list; GPUs stand there once each.

    Raises: UserError for a GPU that is not there, and for ``processes`` with GPUs.
    """
    present = torch.cuda.device_count()
    names = parse_devices(text) if text is not None else [f"gpu{i}" for i in range(present)] or ["cpu"]
    if names == ["cpu"]:
        return [torch.device("cpu")] * (processes or 1)
    if processes is not None:
        raise UserError("--procs is for the CPU: add --gpus cpu. On GPUs there is one process on each.")
    missing = [name for name in names if int(name[3:]) >= present]
    if missing:
        there = ("has no GPU", "has only gpu0", f"has only gpu0 to gpu{present - 1}")[min(present, 2)]
        raise UserError(
            f"{', '.join(missing)} asked for, but this machine {there}. "
            "Leave the option out to use what is there, or pass cpu."
        )
    return [torch.device("cuda", int(name[3:])) for name in names]


def count_processes_here() -> int:
    """How many processes of the run share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block, torch computes in the calling thread alone.

    For operations on single images, which gain little from more threads. Those would not stop when they are
    done, but watch out for more to do for a while, and slow down what runs beside them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def sum_over_processes(values: Tensor) -> Tensor:
    """``values`` summed over all processes, in place; as it is where there is only one."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


def gather_from_processes(value: T) -> list[T]:
    """The ``value`` of each process, in the order of their ranks, in all of them; it has to pickle."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
