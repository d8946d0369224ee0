"""Devices and processes: which there are, one process on each, and sums over them."""

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import UserError

_TIMEOUT = timedelta(
    minutes=10
)  # for one exchange between processes; a broken one ends the run at the latest then

_AGENT_LOGGERS = ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn")


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


def find_devices(text: str | None) -> list[torch.device]:
    """The devices that ``--gpus`` names, or without it all GPUs, or else the CPU.

    Raises: UserError for a GPU that is not there.
    """
    present = torch.cuda.device_count()
    if text is None:
        return [torch.device("cuda", i) for i in range(present)] or [torch.device("cpu")]
    names = parse_devices(text)
    if names == ["cpu"]:
        return [torch.device("cpu")]
    missing = [name for name in names if int(name[3:]) >= present]
    if missing:
        there = (
            f"has only gpu0 to gpu{present - 1}"
            if present > 1
            else ("has only gpu0" if present else "has no GPU")
        )
        raise UserError(
            f"{', '.join(missing)} asked for, but this machine {there}. "
            "Leave the option out to use what is there, or pass cpu."
        )
    return [torch.device("cuda", int(name[3:])) for name in names]


def run(entry: Callable[..., Any], devices: Sequence[torch.device], *args: Any) -> Any:
    """Call ``entry(place, *args)`` in one process a device.

    With one device it runs in this process, and its result is returned. With several, torch's elastic agent
    starts the processes and ends all of them when one fails; the result is then rank 0's.

    Args:
        entry: a function at the top level of a module, since it is sent to the processes by name.

    Raises: UserError with the messages of the processes that ended with one.
    """
    if len(devices) == 1:
        return entry(Place(0, 1, devices[0]), *args)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=len(devices),
        run_id="mit-semseg",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    with tempfile.TemporaryDirectory() as folder, _quiet_agent():
        try:
            return elastic_launch(config, _start)(entry, list(devices), args, folder)[0]
        except ChildFailedError:
            # The same mistake may meet several processes, so that each leaves its message, to be told once.
            messages = {file.read_text(encoding="utf-8") for file in Path(folder).iterdir()}
            if messages:
                raise UserError("\n".join(sorted(messages))) from None
            raise


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """Inside the block torch does not log the end of its processes; the exception tells all of it."""
    loggers = [logging.getLogger(name) for name in _AGENT_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _start(
    entry: Callable[..., Any], devices: list[torch.device], args: tuple[Any, ...], messages: str
) -> Any:
    """What each process of :func:`run` begins with; a UserError's text goes into the folder ``messages``."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = devices[int(os.environ["LOCAL_RANK"])]
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        return entry(Place(rank, size, device), *args)
    except UserError as error:
        Path(messages, str(rank)).write_text(str(error), encoding="utf-8", errors="backslashreplace")
        raise SystemExit(2) from None
    finally:
        dist.destroy_process_group()


def sum_over_processes(values: Tensor) -> Tensor:
    """``values`` summed over all processes, in place; as it is where there is only one."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values
