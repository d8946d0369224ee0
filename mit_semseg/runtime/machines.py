"""The folder of a run on each of its machines, which may or may not share a disk."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from .claim import claimed, owner_of
from .distributed import ProcessInfo, failing_together, gather_from_processes, is_first_on_machine


@contextmanager
def claimed_on_machines(folder: Path, doing: str, key: str, process: ProcessInfo) -> Iterator[bool]:
    """Inside the block, the first process of each machine has claimed its folder. Rank 0 has done so before.

    If a machine sees rank 0's claim in the folder, they share the disk, and it claims nothing.

    Args:
        doing, key: see `claimed`.

    Yields: whether the folder of this process is its own to write into.
    Raises: UserError, in all processes, if another process holds the folder of a machine.
    """
    first = gather_from_processes(owner_of(folder) if process.is_first else None)[0]
    with contextlib.ExitStack() as stack:
        with failing_together():
            own = process.is_first
            if first and not own and is_first_on_machine() and owner_of(folder) != first:
                try:
                    stack.enter_context(claimed(folder, doing, key))
                    own = True
                except UserError:  # a network file system may show a new file late
                    if owner_of(folder) != first:
                        raise
        yield own
