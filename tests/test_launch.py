"""Processes: their places, their sums, and what happens when one of them fails."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mit_semseg.distributed import Place, gather_from_processes, sum_over_processes
from mit_semseg.errors import ProcessError, UserError
from mit_semseg.launch import run

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


def add_ranks(place: Place, factor: int) -> list[int]:
    total = sum_over_processes(torch.tensor([factor * (place.rank + 1)]))
    return [place.rank, place.size, int(total)]


def gather_texts(place: Place) -> list[str]:
    return gather_from_processes("x" * place.rank)


def raise_in_the_last(place: Place) -> None:
    if place.rank == place.size - 1:
        raise ValueError("the last one stumbles")
    dist.all_reduce(torch.zeros(1))  # waits for a peer that never comes


def be_killed_in_the_last(place: Place) -> None:
    if place.rank == place.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.zeros(1))


def exit_in_the_last(place: Place) -> None:
    if place.rank == place.size - 1:
        sys.exit(0)
    dist.all_reduce(torch.zeros(1))


def make_a_mistake(place: Place) -> None:
    raise UserError("a.png holds the value 9.")


def wait(place: Place) -> None:
    sys.stdout.write(f"pid {os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)


def test_one_device_runs_in_this_process():
    assert run(add_ranks, [CPU], 5, timeout_s=60) == [0, 1, 5]


@pytest.mark.parametrize("processes", [2, 3])
def test_each_process_has_its_rank_and_sums_reach_all(processes):
    expected = 10 * sum(range(1, processes + 1))
    assert run(add_ranks, [CPU] * processes, 10, timeout_s=60) == [0, processes, expected]


def test_what_is_gathered_stands_in_the_order_of_the_ranks():
    assert run(gather_texts, [CPU], timeout_s=60) == [""]
    assert run(gather_texts, [CPU] * 3, timeout_s=60) == ["", "x", "xx"]


def test_afterwards_signals_do_what_they_did_before():
    before = signal.getsignal(signal.SIGINT)
    run(add_ranks, [CPU] * 2, 1, timeout_s=60)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_that_raises_ends_the_run_with_its_own_error():
    with pytest.raises(
        ProcessError, match=r"(?s)^Process 1 on cpu failed.*ValueError: the last one stumbles$"
    ):
        run(raise_in_the_last, [CPU] * 2, timeout_s=600)


def test_a_process_that_exits_before_the_others_ends_the_run_even_with_code_0():
    with pytest.raises(ProcessError, match=r"(?s)^Process 1 on cpu failed.*SystemExit: 0$"):
        run(exit_in_the_last, [CPU] * 2, timeout_s=20)


def test_a_process_that_is_killed_ends_the_run_and_is_named():
    with pytest.raises(ProcessError, match=r"^Process 1 on cpu was ended by SIGKILL"):
        run(be_killed_in_the_last, [CPU] * 2, timeout_s=600)


def test_a_mistake_that_every_process_meets_is_told_once():
    with pytest.raises(UserError) as caught:
        run(make_a_mistake, [CPU] * 2, timeout_s=60)
    assert str(caught.value) == "a.png holds the value 9."


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_a_signal_to_the_first_process_leaves_none_behind(number, code):
    program = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "import torch, test_launch\n"
        "from mit_semseg.launch import run\n"
        "if __name__ == '__main__':\n"
        "    run(test_launch.wait, [torch.device('cpu')] * 2, timeout_s=600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [int(re.findall(r"\d+", parent.stdout.readline())[0]) for _ in range(2)]
    parent.send_signal(number)
    assert parent.wait(timeout=60) == code
    parent.stdout.close()
    deadline = time.monotonic() + 15
    while any(_is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_is_alive(child) for child in children)


def test_under_torchrun_a_process_takes_the_place_that_the_environment_gives_it(monkeypatch):
    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    for name, value in (environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "cpu_count", torch.get_num_threads)  # the tests after this one keep their threads
    assert run(add_ranks, [CPU, CPU], 7, timeout_s=60) == [0, 1, 7]
    assert not dist.is_initialized()


def test_torchrun_with_more_processes_than_gpus_is_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        UserError, match=r"process 2 on its machine, but --gpus names 1 devices.*nproc-per-node 1"
    ):
        run(add_ranks, [torch.device("cuda", 0)], 1, timeout_s=60)


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
