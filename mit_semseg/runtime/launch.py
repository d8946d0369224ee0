"""Calling a function in each process of a run, whoever starts the processes."""

import os
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch

from ..errors import ProcessError
from .agent import start_processes
from .distributed import ProcessInfo
from .membership import call, device_of_environment, has_lost_a_peer, process_group


def run_processes(
    entry: Callable[..., Any], devices: Sequence[torch.device], *args: Any, timeout_s: float
) -> Any:
    """Call ``entry(process, *args)`` in one process for each device.

    With one device, it runs in this process. With several, torch's elastic agent starts a process for each,
    and ends all of them when one fails. Stop signals are forwarded to the processes, and end them
    unless they are in a block of `stopping.stop_requests`; a second signal kills them. A process that
    torchrun or another launcher has started takes its rank from the environment, whatever the number of
    devices.

    Args:
        entry: a function at the top level of a module, since it is sent to the processes by name.
        timeout_s: limit for one exchange between the processes, in seconds.

    Returns: what ``entry`` returned in this process, or in rank 0 of the processes that were started.
    Raises: UserError with the messages of the processes that raised one, for several devices on a system
        without SIGUSR1, or for a launcher that has not set all variables; ProcessError with the first other
        error, or if memory runs out; SystemExit with 128 + the number of the signal that ended the run.
    """
    timeout = timedelta(seconds=timeout_s)
    if started_by_torchrun():
        with process_group(device_of_environment(devices), timeout) as process:
            try:
                return call(entry, process, args)
            except Exception as error:
                if has_lost_a_peer(error):
                    raise _lost_peer(process, error) from error
                raise
    if len(devices) == 1:
        return call(entry, ProcessInfo(0, 1, devices[0]), args)
    return start_processes(entry, devices, args, timeout)


def started_by_torchrun() -> bool:
    """Whether torchrun, or another launcher that sets up the same environment, has started this process."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def count_processes(devices: Sequence[torch.device]) -> int:
    """The number of processes that `run_processes` uses for ``devices``."""
    return int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else len(devices)


def is_first_process() -> bool:
    """Whether this process prints and writes files for the run; False for all but rank 0 under torchrun."""
    return not started_by_torchrun() or os.environ.get("RANK") == "0"


def _lost_peer(process: ProcessInfo, error: Exception) -> ProcessError:
    return ProcessError(
        f"Process {process.rank} on {socket.gethostname()} has lost another process of the run: "
        f"{str(error).splitlines()[0]} Its own output says why it ended. torchrun starts all of them again, "
        "up to --max-restarts times."
    )
