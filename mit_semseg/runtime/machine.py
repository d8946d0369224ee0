"""The machine that a command runs on: its processor, its devices and their memory.

Torch is imported inside the functions that use it, so that commands without torch start faster.
"""

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ProcessError

if TYPE_CHECKING:
    import torch


def cpu_count() -> int:
    """The number of cores that this process may use. A container or taskset may grant fewer than exist."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_memory() -> str:
    """A sentence about /dev/shm, where processes keep their semaphores; "" where there is no such folder."""
    folder = Path("/dev/shm")
    try:
        size = os.statvfs(folder)
    except (AttributeError, OSError):
        return f"{folder} is missing. " if sys.platform == "linux" else ""
    total, free = (blocks * size.f_frsize / 1e6 for blocks in (size.f_blocks, size.f_bavail))
    return (
        f"{folder} holds {total:,.3g} MB, of which {free:,.3g} MB are free; in a container, "
        "docker run --shm-size 2g or --ipc host enlarges it. "
    )


class PeakMemory:
    """Peak memory since its creation, in bytes: of tensors on a GPU, or of the whole process on the CPU."""

    _RESET = "5"  # for /proc/self/clear_refs, see man 5 proc

    def __init__(self, device: "torch.device") -> None:
        self._device = device
        self._known = True
        if device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text(self._RESET)
        except OSError:  # not Linux, or a container that forbids it
            self._known = False

    def peak(self) -> int | None:
        """The peak so far; None where the system does not report it."""
        if self._device.type == "cuda":
            import torch

            return torch.cuda.max_memory_allocated(self._device)
        if not self._known:
            return None
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(match[1]) * 1024 if match else None


def peak_memory(device: "torch.device") -> float:
    """Peak memory of this process so far, on its GPU or else in RAM, in 10^9 bytes. NaN if not known."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return float("nan")
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def synchronize(device: "torch.device") -> None:
    """Wait until all work that was queued on a device is done."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def device_name(device: "torch.device") -> str:
    """The name of a device; for the CPU, also the number of threads that torch uses."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, threads: {torch.get_num_threads()}"


def _cpu_name() -> str:
    try:
        match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


@contextmanager
def naming_lack_of_memory(device: "torch.device") -> Iterator[None]:
    """Inside the block, torch's errors for memory that it cannot get become a message with what to do.

    Raises: ProcessError in their place.
    """
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if not (isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in text):
            raise
        size = re.search(r"tried to allocate ([\d.]+ \w+)", text, re.IGNORECASE)
        request = f" at a request for {size[1]}" if size else ""
        raise ProcessError(
            f"Memory ran out on {device}{request}. In training, lower TRAIN.batch_size_per_gpu, "
            "DATASET.imgMaxSize or DATASET.crop_size, or set TRAIN.amp auto or TRAIN.checkpoint_activations "
            "True. In scoring, lower DATASET.imgSizes, or set INFERENCE.tile."
        ) from error


def limit_spinning() -> None:
    """Let torch's threads wait for work actively for less than a millisecond, then sleep.

    By default, libgomp's threads spin much longer. If another program uses the cores, too, they take the time
    from the threads that they wait for. The variable counts only if it is set before torch is imported;
    what the user has set stays.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
