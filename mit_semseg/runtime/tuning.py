"""Settings of the libraries below torch: for its threads (libgomp), and for the memory of tensors (glibc).

What the user has set in the environment stays. On other systems, nothing is changed.
"""

import ctypes
import os
import sys

# Parameters of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4

_NEVER = -1
_GROW_BY = 2**28


def prepare_torch() -> None:
    """Set the environment variables that torch and libgomp read once. They count until torch is imported.

    - ``GOMP_SPINCOUNT``: threads wait for work actively for less than a millisecond, then sleep. By default,
      they spin much longer. If another program uses the cores, too, they take the time from the threads that
      they wait for.
    - ``THP_MEM_ALLOC_ENABLE``: torch asks for pages of 2 MB for tensors of at least that size. The processor
      then translates fewer addresses, which is slow in virtual machines most of all.
    """
    if "torch" in sys.modules:
        return
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones.

    By default, glibc returns each block of more than 32 MiB to the kernel when it is freed, and the kernel
    writes zeros to new pages. A training step frees and allocates the same sizes again and again.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        mallopt(_M_TOP_PAD, _GROW_BY)
