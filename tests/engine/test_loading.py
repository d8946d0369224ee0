import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from mit_semseg.engine.loading import AUTO, Skipped, load, naming_dead_workers, raise_errors
from mit_semseg.errors import ProcessError, UserError
from mit_semseg.log import setup_logger

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent.parent


class Squares(Dataset):
    """Item i holds i squared and the process that read it; item 3 can't be read."""

    def __getitem__(self, index):
        if index == 3:
            raise UserError("three.jpg is empty.")
        if index == 99:
            raise ZeroDivisionError("a mistake of ours")
        if index == 666:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"x": torch.tensor(index**2), "info": str(os.getpid())}


class Large(Dataset):
    """Items that do not fit into the pipe in which they are handed over."""

    def __getitem__(self, index):
        return {"x": bytes(10**6), "pid": os.getpid()}


HALF_WAY = """
import sys
sys.path[:0] = sys.argv[1:]
import torch
from test_loading import Large
from mit_semseg.engine.loading import load
items = iter(load(Large().__getitem__, range(100), workers=2, device=torch.device("cpu")))
print(next(items)["pid"], flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_workers_end_with_a_process_that_is_killed():
    folders = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    command = [sys.executable, "-c", HALF_WAY, *folders]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdecimal()
    process.kill()
    process.communicate(timeout=20)  # a worker that is left would hold the output open


def values(items):
    return [item["x"].item() if isinstance(item, dict) else str(item) for item in items]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_items_come_in_the_order_asked_for_with_errors_in_their_places(workers):
    items = load(Squares().__getitem__, [5, 1, 3, 2, 1], workers=workers, device=CPU)
    assert values(items) == [25, 1, "three.jpg is empty.", 4, 1]


def test_workers_are_other_processes_and_no_more_than_there_are_items():
    pids = {item["info"] for item in load(Squares().__getitem__, [1, 2], workers=0, device=CPU)}
    assert pids == {str(os.getpid())}
    pids = {item["info"] for item in load(Squares().__getitem__, [1], workers=50, device=CPU)}
    assert str(os.getpid()) not in pids
    assert len(pids) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_mistake_is_raised_in_its_turn_without_a_worker_in_its_message(workers):
    items = raise_errors(load(Squares().__getitem__, [1, 3, 2], workers=workers, device=CPU))
    assert next(items)["x"] == 1
    with pytest.raises(UserError, match=r"^three\.jpg is empty\.$"):
        next(items)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_of_ours_is_not_taken_for_the_users(workers):
    with pytest.raises(ZeroDivisionError):
        list(load(Squares().__getitem__, [99], workers=workers, device=CPU))


def test_the_death_of_a_worker_is_told_with_what_to_do():
    with pytest.raises(ProcessError) as caught, naming_dead_workers():
        list(load(Squares().__getitem__, [1, 666, 2], workers=1, device=CPU))
    assert re.match(r"A process that loads images has died: DataLoader worker \(pid", str(caught.value))
    assert str(caught.value).endswith("set TRAIN.workers lower, or 0.")


def test_another_error_of_the_runtime_stays_as_it_is():
    with pytest.raises(RuntimeError, match=r"^out of luck$"), naming_dead_workers():
        raise RuntimeError("out of luck")


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_draws_nothing_from_the_generator_of_the_training(workers):
    before = torch.random.get_rng_state()
    values(load(Squares().__getitem__, [1, 2], workers=workers, device=CPU))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_skipped_files_are_logged_once_and_end_the_run_beyond_one_percent(capsys):
    setup_logger()
    skipped = Skipped(records=200)
    skipped.add(["a.jpg is empty."])
    skipped.add(["a.jpg is empty.", "b.jpg is empty."])
    assert capsys.readouterr().out.count("Skipped") == 2
    with pytest.raises(UserError) as caught:
        skipped.add(["c.jpg is empty."])
    assert "3 of 200 examples can't be used" in str(caught.value)
    assert "c.jpg is empty." in str(caught.value)


def test_the_number_of_workers_that_is_chosen_is_one_beside_a_model_on_the_cpu():
    pids = {item["info"] for item in load(Squares().__getitem__, range(4, 9), workers=AUTO, device=CPU)}
    assert len(pids - {str(os.getpid())}) == 1


def test_a_loader_that_is_still_held_does_not_keep_the_process_from_ending():
    code = (
        "import torch\n"
        "from mit_semseg.engine.loading import load\n"
        "class Numbers:\n"
        "    def read(self, index):\n"
        "        return {'index': index}\n"
        "held = iter(load(Numbers().read, range(100), workers=1, device=torch.device('cpu')))\n"
        "print(next(held))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'index': 0}\n", "")
