"""What is asked of the machine that a measurement runs on: its name, its memory, whether it is done."""

import platform
import re
from pathlib import Path

import torch


class PeakMemory:
    """The most memory since it was made: that of tensors on a GPU, that of the whole process on the CPU."""

    _RESET = "5"  # for /proc/self/clear_refs, see man 5 proc

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text(self._RESET)
        except OSError:  # not Linux, or a container that forbids it
            self._known = False

    def peak(self) -> int | None:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if not self._known:
            return None
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(match[1]) * 1024 if match else None


def wait(device: torch.device) -> None:
    """Until everything that was started on a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """What a device is called, and how many threads the CPU computes with."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, threads: {torch.get_num_threads()}"


def _cpu_name() -> str:
    try:
        match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()
