"""A forked command is to its tests what ``python`` is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Outcome
from forked import Command, in_processes, run_python, run_torchrun
from torch.multiprocessing import ProcessRaisedException

from mit_semseg.runtime.distributed import gather_from_processes

PROGRAM = """
import atexit, multiprocessing, os, sys
atexit.register(print, "the end")
print(__name__, sys.argv, os.getcwd(), os.environ.get("X"), sys.path[0])
print([path for path in sys.path if "tests" in path])
print(multiprocessing.get_start_method(), os.get_blocking(1), sys.stdin.read(), flush=True)
sys.stdout.reconfigure(errors="replace")
print(sys.stdout.encoding.lower(), sys.stderr.errors, "complaint", file=sys.stderr)
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "sys.exit('said at the end')", "os.kill(os.getpid(), 15)"]
)
@pytest.mark.parametrize("kind", ["script", "-m", "-c"])
def test_it_finds_and_leaves_what_a_new_interpreter_does(tmp_path, monkeypatch, kind, end):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "program.py").write_text(PROGRAM.format(end=end))
    start = {"script": ["program.py"], "-m": ["-m", "program"], "-c": ["-c", PROGRAM.format(end=end)]}[kind]
    words, environment = [*start, "--word", "a b"], {"X": "y"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    wanted = Outcome(done.returncode, done.stdout, done.stderr)
    assert run_python(*words, cwd=tmp_path, environment=environment) == wanted


def test_an_error_is_code_1_and_shown():
    outcome = run_python("-c", "1 / 0")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.endswith("ZeroDivisionError: division by zero\n")


def test_it_can_be_read_signalled_and_is_killed_at_the_end_of_the_block():
    code = "import signal, time\nprint('ready', flush=True)\nsignal.pause()\n"
    with Command("-c", code) as command:
        assert command.out.readline() == "ready\n"
        command.send_signal(signal.SIGTERM)
        assert command.finish().code == -signal.SIGTERM
    with Command("-c", code) as command:
        assert command.out.readline() == "ready\n"
    assert not Path(f"/proc/{command.pid}").exists()


def test_our_package_is_not_in_memory_but_torch_is():
    code = "import sys; print('torch' in sys.modules, 'mit_semseg' in sys.modules)"
    assert run_python("-c", code).out == "True False\n"


RANK = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
found = [None] * dist.get_world_size()
local = [int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE")]
dist.all_gather_object(found, [*local, sys.argv[1]])
print(dist.get_rank(), found)
sys.exit(dist.get_rank())
"""


@pytest.mark.parametrize(("machines", "processes"), [(1, 2), (2, 1)])
def test_processes_of_torchrun_find_each_other(machines, processes):
    outcomes = run_torchrun(processes, "-c", RANK, machines=machines, own_words=lambda rank: [f"word {rank}"])
    found = [[rank % processes, processes, f"word {rank}"] for rank in range(2)]
    assert outcomes == [Outcome(rank, f"{rank} {found}\n", "") for rank in range(2)]


def places(process, value):
    return gather_from_processes((process.rank, process.size, value))


def fail(process):
    raise ValueError("a mistake")


def test_a_function_runs_in_several_processes_and_its_error_reaches_the_test():
    assert in_processes(2, places, 7) == [(0, 2, 7), (1, 2, 7)]
    with pytest.raises(ProcessRaisedException, match="ValueError: a mistake"):
        in_processes(1, fail)
