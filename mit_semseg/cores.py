"""The processor's cores; apart from what imports torch, since the commands that do without start faster."""

import os


def count_cores() -> int:
    """The cores that this process may use: fewer than there are in a container, or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
