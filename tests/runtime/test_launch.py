"""Processes: their ranks, their sums, and what happens when one of them fails."""

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
from forked import Command

from mit_semseg.errors import ProcessError, UserError
from mit_semseg.runtime import agent, membership
from mit_semseg.runtime.distributed import ProcessInfo, gather_from_processes, sum_over_processes
from mit_semseg.runtime.launch import run_processes
from mit_semseg.runtime.membership import choose_device

CPU = torch.device("cpu")


def add_ranks(process: ProcessInfo, factor: int) -> list[int]:
    total = sum_over_processes(torch.tensor([factor * (process.rank + 1)]))
    return [process.rank, process.size, int(total)]


def gather_texts(process: ProcessInfo) -> list[str]:
    return gather_from_processes("x" * process.rank)


def add_and_gather(process: ProcessInfo, factor: int) -> tuple[list[int], list[str], str]:
    return add_ranks(process, factor), gather_texts(process), os.environ["MASTER_ADDR"]


def raise_in_the_last(process: ProcessInfo) -> None:
    if process.rank == process.size - 1:
        raise ValueError("the last one stumbles")
    dist.all_reduce(torch.zeros(1))  # waits for a peer that never comes


def be_killed_in_the_last(process: ProcessInfo) -> None:
    if process.rank == process.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.zeros(1))


def exit_in_the_last(process: ProcessInfo) -> None:
    if process.rank == process.size - 1:
        sys.exit(0)
    dist.all_reduce(torch.zeros(1))


def make_a_mistake(process: ProcessInfo) -> None:
    raise UserError("a.png holds the value 9.")


def wait(process: ProcessInfo) -> None:
    sys.stdout.write(f"pid {os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)


def test_one_device_runs_in_this_process():
    assert run_processes(add_ranks, [CPU], 5, timeout_s=60) == [0, 1, 5]
    assert run_processes(gather_texts, [CPU], timeout_s=60) == [""]


@pytest.fixture(scope="module")
def of_two():
    """What the first of two processes returns, and the handlers of SIGINT before and after."""
    before = signal.getsignal(signal.SIGINT)
    added, gathered, address = run_processes(add_and_gather, [CPU] * 2, 10, timeout_s=60)
    return added, gathered, (before, signal.getsignal(signal.SIGINT)), address


def test_each_process_has_its_rank_and_sums_reach_all(of_two):
    assert of_two[0] == [0, 2, 10 * (1 + 2)]


def test_gathered_values_are_in_the_order_of_the_ranks(of_two):
    assert of_two[1] == ["", "x"]


def test_processes_of_one_machine_meet_without_its_name(of_two):
    assert of_two[3] == "localhost"


def test_afterwards_signals_have_the_handlers_from_before(of_two):
    before, after = of_two[2]
    assert after is before


LAUNCH = """
import sys, torch
sys.path.insert(0, {folder!r})
import test_launch
from mit_semseg.errors import ProcessError, UserError
from mit_semseg.runtime.launch import run_processes
try:
    run_processes(test_launch.{entry}, [torch.device("cpu")] * 2, timeout_s=600)
except (ProcessError, UserError) as error:
    print(type(error).__name__, error, flush=True)
"""


def launching(entry):
    """A program that calls a function of this file in two processes and prints how that failed.

    The two are forks, because processes that import torch first would take most of the time of this file.
    """
    code = LAUNCH.format(folder=str(Path(__file__).parent), entry=entry.__name__)
    return Command("-c", code, forking=True)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (raise_in_the_last, r"ProcessError Process 1 on cpu failed.*ValueError: the last one stumbles\n"),
        (exit_in_the_last, r"ProcessError Process 1 on cpu failed.*SystemExit: 0\n"),
        (be_killed_in_the_last, r"ProcessError Process 1 on cpu was killed by SIGKILL.*"),
        (make_a_mistake, r"UserError a\.png holds the value 9\.\n"),
    ],
)
def test_a_process_that_fails_or_exits_early_ends_the_run_with_its_own_error_said_once(entry, says):
    with launching(entry) as program:
        outcome = program.finish(timeout=60)
    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(says, outcome.out, re.DOTALL)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)],
)
def test_no_process_survives_a_signal_to_the_first_one(number, code):
    with launching(wait) as parent:
        children = [int(re.findall(r"\d+", parent.out.readline())[0]) for _ in range(2)]
        parent.send_signal(number)
        assert parent.finish(timeout=60).code == code
    deadline = time.monotonic() + 15
    while any(_is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_is_alive(child) for child in children)


def test_under_torchrun_a_process_takes_its_rank_from_the_environment_and_keeps_its_threads(monkeypatch):
    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    for name, value in (environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}).items():
        monkeypatch.setenv(name, value)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert run_processes(add_ranks, [CPU, CPU], 7, timeout_s=60) == [0, 1, 7]
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert not dist.is_initialized()


def test_torchrun_itself_starts_processes_that_find_each_other(tmp_path):
    """Other tests set the variables of torchrun, see forked.py; this one shows that torchrun sets them."""
    program = tmp_path / "program.py"
    program.write_text(
        "import torch, test_launch\n"
        "from mit_semseg.runtime.launch import run_processes\n"
        "found = run_processes(test_launch.add_ranks, [torch.device('cpu')] * 2, 10, timeout_s=60)\n"
        "print(f'rank {found[0]} of {found[1]}: {found[2]}\\n', end='', flush=True)\n"
    )
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(program),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["rank 0 of 2: 30", "rank 1 of 2: 30"]


def test_an_environment_that_lacks_variables_of_a_launcher_is_refused(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"but not RANK, MASTER_ADDR, MASTER_PORT\. .* torchrun, or unset"):
        run_processes(add_ranks, [CPU], 1, timeout_s=60)


def test_a_process_whose_peers_do_not_exist_says_whom_it_waits_for(monkeypatch, capsys):
    """Variables of a launcher remain in a shell or a container, but only one process is started."""
    monkeypatch.setattr(membership, "_PATIENCE_S", 0.1)
    environment = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (environment | {"MASTER_PORT": "9"}).items():  # the port for discarded data
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ProcessError, match=r"did not meet .* process 1 of 2 .* at 127\.0\.0\.1:9 .* unset RANK"
    ):
        run_processes(add_ranks, [CPU], 1, timeout_s=2)
    assert "This process waits for the others of the run: it is process 1 of 2" in capsys.readouterr().err


def test_under_nohup_the_agent_ignores_a_closed_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert signal.SIGHUP in agent._agent_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert signal.SIGHUP not in agent._agent_signals()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("visible", [None, "", "0,1"])
def test_torchrun_with_more_processes_than_gpus_is_refused(monkeypatch, visible):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(
        UserError, match=r"process 2 on its machine, but it may use only 1 device\..*nproc-per-node 1\)"
    ):
        run_processes(add_ranks, [torch.device("cuda", 0)], 1, timeout_s=60)


GPUS = [torch.device("cuda", index) for index in range(4)]


@pytest.mark.parametrize(
    ("devices", "local_rank", "visible", "chosen"),
    [
        (GPUS, 3, None, GPUS[3]),
        (GPUS, 3, "4,5,6,7", GPUS[3]),
        ([GPUS[2], GPUS[0]], 1, None, GPUS[0]),
        # SLURM shows each task its own GPU, which is the task's first one.
        (GPUS[:1], 0, "0", GPUS[0]),
        (GPUS[:1], 3, "3", GPUS[0]),
        (GPUS[:1], 3, "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", GPUS[0]),
        ([CPU], 3, None, CPU),
    ],
)
def test_a_process_takes_the_gpu_of_its_local_rank_or_the_only_one_that_it_is_shown(
    devices, local_rank, visible, chosen
):
    assert choose_device(devices, local_rank, visible) == chosen


@pytest.mark.parametrize(("count", "visible"), [(2, None), (2, "0,1"), (1, None)])
def test_fewer_gpus_than_processes_are_refused_unless_each_process_is_shown_its_own(count, visible):
    with pytest.raises(UserError, match=rf"^This is process 4 on its machine.*nproc-per-node {count}\)"):
        choose_device(GPUS[:count], 3, visible)


def test_a_process_under_slurm_computes_on_the_gpu_that_it_is_shown(monkeypatch):
    chosen = []
    environment = {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4", "CUDA_VISIBLE_DEVICES": "3"}
    for name, value in (environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **kwargs: sys.exit(0))
    with pytest.raises(SystemExit):
        run_processes(add_ranks, GPUS[:1], 1, timeout_s=60)
    assert chosen == [GPUS[0]]


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
