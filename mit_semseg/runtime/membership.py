"""How a process joins a run of several: its device, the others that it meets, and the loss of one of them."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ..errors import ProcessError, UserError
from .distributed import ProcessInfo, local_world_size
from .machine import cpu_count, naming_lack_of_memory

_MEETING = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # variables that a launcher sets
_LAUNCHER_VARIABLES = (*_MEETING, "LOCAL_RANK")
_PATIENCE_S = 10.0  # how long a process waits for the others before it says so
_VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def call(entry: Callable[..., Any], process: ProcessInfo, args: tuple[Any, ...]) -> Any:
    """What ``entry(process, *args)`` returns. Raises: ProcessError if memory runs out."""
    with naming_lack_of_memory(process.device):
        return entry(process, *args)


def choose_device(
    devices: Sequence[torch.device], local_rank: int, visible: str | None = None
) -> torch.device:
    """The device of a process that a launcher has started.

    Args:
        devices: those that the run may use, as this process sees them. The CPU serves any number of
            processes.
        local_rank: number of this process on its machine, from 0.
        visible: CUDA_VISIBLE_DEVICES, or None. If it lists one device, the launcher shows each process only
            its own, as SLURM does: the first device, whatever the local rank.

    Raises: UserError if the processes share fewer devices than they need.
    """
    if devices[0].type == "cpu":
        return devices[0]
    if local_rank < len(devices):
        return devices[local_rank]
    if len(devices) == 1 and visible and "," not in visible:
        return devices[0]
    count = f"{len(devices)} device{'' if len(devices) == 1 else 's'}"
    raise UserError(
        f"This is process {local_rank + 1} on its machine, but it may use only {count}. Start one process "
        f"for each device (torchrun --nproc-per-node {len(devices)}), or name more devices with --gpus."
    )


def device_of_environment(devices: Sequence[torch.device]) -> torch.device:
    """`choose_device` for the process that the environment describes."""
    visible = next((os.environ[name] for name in _VISIBLE_DEVICES if name in os.environ), None)
    return choose_device(devices, int(os.environ["LOCAL_RANK"]), visible)


@contextmanager
def process_group(device: torch.device, timeout: timedelta) -> Iterator[ProcessInfo]:
    """Inside the block, this process is a member of the process group that the environment describes."""
    threads = torch.get_num_threads()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, cpu_count() // local_world_size()))
    try:
        with _saying_whom_it_waits_for():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
        yield ProcessInfo(dist.get_rank(), dist.get_world_size(), device)
        dist.destroy_process_group()  # only after a success: after a failure it may wait for dead peers
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _saying_whom_it_waits_for() -> Iterator[None]:
    """Inside the block, this process meets the others of the run, which may not exist.

    Raises: UserError if a launcher has not set all variables; ProcessError if the others do not come in time.
    """
    missing = [name for name in _LAUNCHER_VARIABLES if name not in os.environ]
    if missing:
        raise UserError(
            "LOCAL_RANK and WORLD_SIZE are set, as if a launcher had started this process, but not "
            f"{', '.join(missing)}. Start the command with torchrun, or unset LOCAL_RANK and WORLD_SIZE."
        )
    rank, size, address, port = (os.environ[name] for name in _MEETING)
    others = (
        f"the others of the run: it is process {rank} of {size} (RANK, WORLD_SIZE), which meet at "
        f"{address}:{port} (MASTER_ADDR, MASTER_PORT)"
    )
    todo = "Start all of them; for a single process, unset RANK, LOCAL_RANK and WORLD_SIZE."
    notice = threading.Timer(_PATIENCE_S, sys.stderr.write, [f"This process waits for {others}. {todo}\n"])
    notice.daemon = True
    notice.start()
    try:
        yield
    except dist.DistError as error:
        raise ProcessError(f"This process did not meet {others}. {todo}") from error
    finally:
        notice.cancel()


def has_lost_a_peer(error: BaseException) -> bool:
    """Whether the error only says that another process has ended."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )
