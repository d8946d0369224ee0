import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from forked import FORKS

from mit_semseg.lib.nn.mailbox import _FOLDER, Mailbox, _create, _size, _Where, has_shared_memory

pytestmark = pytest.mark.skipif(not has_shared_memory(), reason="needs Linux on x86-64")

ROUNDS = 300


def row(rank, number, dtype=torch.float32):
    """A rank's row in a round. Its length changes from round to round, as from layer to layer."""
    return torch.arange(1 + number % 40, dtype=dtype)[None] + 1000 * rank + number


def path_for(folder, ranks):
    return folder / f"memory of {ranks}"


def swap_in_groups(rank, folder, groups):
    """Swap rows in one group of ranks after another; ``groups`` are their sizes."""
    for ranks in groups:
        if rank < ranks:
            swap(rank, path_for(folder, ranks), ranks)


def swap(rank, path, ranks):
    box = Mailbox(np.memmap(path, np.uint8, "r+"), rank, ranks, timeout_s=30)
    rng = np.random.Generator(np.random.Philox(rank))
    for number in range(ROUNDS):
        if rng.random() < 0.05:
            time.sleep(0.003)  # late now and then, for longer than the others poll without a pause
        dtype = torch.float64 if number % 3 else torch.float32
        found = box.gather(row(rank, number, dtype))
        wanted = torch.cat([row(peer, number, dtype) for peer in range(ranks)])
        assert torch.equal(found, wanted), (ranks, rank, number)
        assert found.dtype == dtype


def test_everyone_gets_everyones_row_of_every_round(tmp_path):
    groups = (1, 2, 3, 5)
    for ranks in groups:
        path_for(tmp_path, ranks).write_bytes(bytes(_size(ranks)))
    ranks = max(groups)
    torch.multiprocessing.start_processes(
        swap_in_groups, (tmp_path, groups), nprocs=ranks, start_method=FORKS
    )


def leave_early(rank, path):
    box = Mailbox(np.memmap(path, np.uint8, "r+"), rank, 2, timeout_s=60)
    box.gather(torch.ones(1, 1))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_rank_is_reported_at_once(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(_size(2)))
    context = torch.multiprocessing.get_context("spawn")  # the server of forks would collect the zombie
    peer = context.Process(target=leave_early, args=(1, path))
    peer.start()
    box = Mailbox(np.memmap(path, np.uint8, "r+"), 0, 2, timeout_s=60)
    while box._pids[1] == 0:  # as between_ranks waits for all
        time.sleep(0.01)
    box.gather(torch.ones(1, 1))
    while " Z " not in Path(f"/proc/{peer.pid}/stat").read_text():
        time.sleep(0.01)
    # Now it is a zombie, as it would be if its launcher waited for another process first.
    start = time.monotonic()
    with pytest.raises(dist.DistError, match="Rank 1 ended while rank 0 was waiting for it"):
        box.gather(torch.ones(1, 1))
    assert time.monotonic() - start < 10
    peer.join()


def test_a_rank_that_does_not_arrive_is_waited_for_until_the_timeout():
    memory = np.zeros(_size(2), np.uint8)
    Mailbox(memory, 1, 2, timeout_s=60)
    box = Mailbox(memory, 0, 2, timeout_s=0.3)
    with pytest.raises(dist.DistError, match=r"Rank 0 waited 0\.3 s for rank 1 at a synchronized layer"):
        box.gather(torch.ones(1, 1))


def test_ranks_with_rows_of_different_sizes_all_fail():
    memory = np.zeros(_size(2), np.uint8)
    boxes = [Mailbox(memory, rank, 2, timeout_s=30) for rank in range(2)]
    with ThreadPoolExecutor() as pool:
        found = [pool.submit(box.gather, torch.ones(1, 3 + rank)) for rank, box in enumerate(boxes)]
    for future in found:
        with pytest.raises(RuntimeError, match=r"different synchronized layers: they send \[12, 16\] bytes"):
            future.result()


def test_the_shared_file_never_has_a_name():
    file = _create(1000)
    assert file is not None
    status = os.fstat(file.fileno())
    assert status.st_nlink == 0
    # Linux shows a file that never had a name by its number, and one that lost its name by that name.
    link = Path(f"/proc/self/fd/{file.fileno()}").readlink()
    assert link == _FOLDER / f"#{status.st_ino} (deleted)"
    where = _Where.of(file)
    with file:
        first, second = where.open(1000), where.open(1000)
        assert first is not None
        assert second is not None
        first[7] = 5
        assert second.tolist() == [0] * 7 + [5] + [0] * 992
        assert where._replace(secret=bytes(16)).open(1000) is None  # another file, on another machine
        assert where.open(999) is None
    assert where.open(1000) is None
    assert where._replace(path="/dev/null").open(1000) is None


def test_rows_that_are_too_long_or_not_on_the_cpu_are_not_taken():
    box = Mailbox(np.zeros(_size(1), np.uint8), 0, 1, timeout_s=1)
    assert box.takes(torch.zeros(1, 2 * 4096 + 1))
    assert not box.takes(torch.zeros(1, 2 * 8192 + 1))
    assert not box.takes(torch.zeros(1, 3, device="meta"))
    assert not box.takes(torch.zeros(1, 3, dtype=torch.bfloat16))
