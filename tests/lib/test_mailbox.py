import os
import signal
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist

from mit_semseg.lib.nn.mailbox import Mailbox, _size, has_shared_memory

pytestmark = pytest.mark.skipif(not has_shared_memory(), reason="needs Linux on x86-64")

ROUNDS = 300


def row(rank, number, dtype=torch.float32):
    """What a rank sends in a round; its length changes from round to round, as from layer to layer."""
    return torch.arange(1 + number % 40, dtype=dtype)[None] + 1000 * rank + number


def swap(rank, path, ranks):
    box = Mailbox(np.memmap(path, np.uint8, "r+"), rank, ranks, timeout_s=30)
    rng = np.random.Generator(np.random.Philox(rank))
    for number in range(ROUNDS):
        if rng.random() < 0.05:
            time.sleep(0.003)  # late now and then, longer than the others look without a pause
        dtype = torch.float64 if number % 3 else torch.float32
        found = box.gather(row(rank, number, dtype))
        wanted = torch.cat([row(peer, number, dtype) for peer in range(ranks)])
        assert torch.equal(found, wanted), (rank, number)
        assert found.dtype == dtype


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_everyone_gets_everyones_row_of_every_round(tmp_path, ranks):
    path = tmp_path / "memory"
    path.write_bytes(bytes(_size(ranks)))
    torch.multiprocessing.spawn(swap, (path, ranks), nprocs=ranks)


def leave_early(rank, path):
    box = Mailbox(np.memmap(path, np.uint8, "r+"), rank, 2, timeout_s=60)
    box.gather(torch.ones(1, 1))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_rank_that_was_killed_is_missed_at_once(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(_size(2)))
    context = torch.multiprocessing.get_context("spawn")
    peer = context.Process(target=leave_early, args=(1, path))
    peer.start()
    box = Mailbox(np.memmap(path, np.uint8, "r+"), 0, 2, timeout_s=60)
    while box._pids[1] == 0:  # as between_ranks waits for all
        time.sleep(0.01)
    box.gather(torch.ones(1, 1))
    peer.join()
    start = time.monotonic()
    with pytest.raises(dist.DistError, match="Rank 1 has ended while rank 0 waited for it"):
        box.gather(torch.ones(1, 1))
    assert time.monotonic() - start < 10


def test_a_rank_that_does_not_come_is_waited_for_no_longer_than_agreed():
    memory = np.zeros(_size(2), np.uint8)
    Mailbox(memory, 1, 2, timeout_s=60)
    box = Mailbox(memory, 0, 2, timeout_s=0.3)
    with pytest.raises(dist.DistError, match=r"Rank 0 has waited 0\.3 s for rank 1 at a synchronized layer"):
        box.gather(torch.ones(1, 1))


def test_rows_that_are_too_long_or_elsewhere_are_not_taken():
    box = Mailbox(np.zeros(_size(1), np.uint8), 0, 1, timeout_s=1)
    assert box.takes(torch.zeros(1, 2 * 4096 + 1))
    assert not box.takes(torch.zeros(1, 2 * 8192 + 1))
    assert not box.takes(torch.zeros(1, 3, device="meta"))
