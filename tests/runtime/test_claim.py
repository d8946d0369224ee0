"""A folder belongs to one process at a time, from the first second to the last."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mit_semseg.errors import UserError
from mit_semseg.runtime import claim
from mit_semseg.runtime.claim import NAME, claimed, owner_of

fcntl = pytest.importorskip("fcntl")
ROOT = Path(__file__).parents[2]

HOLDER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from mit_semseg.runtime.claim import claimed
with claimed(sys.argv[2], "trained", "DIR"):
    child = os.fork() if sys.argv[3:] else None
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(claim, "_PATIENCE_S", 0.1)


@pytest.fixture
def holder(tmp_path):
    """``holder()`` starts a process that holds the folder until its input ends."""
    started = []

    def start(*words):
        command = [sys.executable, "-c", HOLDER, str(ROOT), str(tmp_path / "run"), *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def refusal(folder, doing="trained", key="DIR"):
    with pytest.raises(UserError) as caught, claimed(folder, doing, key):
        pass
    return str(caught.value)


def no_locks(descriptor, operation):
    raise OSError(errno.ENOLCK, "No locks available")


def test_another_process_is_refused_with_the_name_of_the_owner(holder, tmp_path):
    process = holder()
    folder = tmp_path / "run"
    owner = json.loads((folder / NAME).read_text())
    assert (owner["host"], owner["process"]) == (socket.gethostname(), process.pid)
    assert owner["command"].startswith("-c")
    assert refusal(folder, "written into", "VAL.result") == (
        f"{folder} is being trained by process {process.pid} on host {socket.gethostname()} since "
        f"{owner['since'][11:16]}. Stop that process, or set VAL.result to another folder."
    )
    assert json.loads((folder / NAME).read_text()) == owner
    process.communicate("")
    with claimed(folder, "trained", "DIR"):
        pass


@pytest.mark.parametrize("words", [(), ("with a forked child",)])
def test_a_killed_owner_leaves_no_claim_even_if_its_child_lives_on(holder, tmp_path, words):
    process = holder(*words)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run" / NAME).exists()
    with claimed(tmp_path / "run", "trained", "DIR"):
        assert json.loads((tmp_path / "run" / NAME).read_text())["process"] == os.getpid()
    assert not (tmp_path / "run").exists() or list((tmp_path / "run").iterdir()) == []


def test_a_claim_leaves_nothing_and_keeps_what_was_written(tmp_path):
    for name in ("empty", "full"):
        folder = tmp_path / "new" / name
        with suppress(ZeroDivisionError), claimed(folder, "trained", "DIR"):
            assert refusal(folder).startswith(f"{folder} is being trained by process {os.getpid()} ")
            if name == "full":
                (folder / "state.pth").touch()
            raise ZeroDivisionError
    assert [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*"))] == [
        Path("new"),
        Path("new/full"),
        Path("new/full/state.pth"),
    ]


def test_a_process_that_is_not_the_first_claims_nothing(tmp_path):
    with claimed(tmp_path / "run", "trained", "DIR", enabled=False):
        assert not (tmp_path / "run").exists()


def test_folders_inside_a_claimed_folder_are_free(tmp_path):
    with claimed(tmp_path, "trained", "DIR"), claimed(tmp_path / "result", "written into", "VAL.result"):
        pass


def test_an_unusable_folder_has_the_message_of_the_check(tmp_path):
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "run").endswith("Not a directory. Set DIR to another folder.")


def test_a_file_deleted_by_its_former_owner_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    def late(descriptor, operation, lock=fcntl.flock):
        if not deleted:
            deleted.append((tmp_path / NAME).unlink())  # between open and lock
        lock(descriptor, operation)

    deleted: list[None] = []
    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(tmp_path, "trained", "DIR"):
        assert (tmp_path / NAME).exists()


# File systems without locks


def test_without_locks_a_running_process_of_this_machine_and_any_of_another_one_hold_the_folder(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    hint = f" If it has ended, delete {tmp_path / NAME}."
    with claimed(tmp_path, "trained", "DIR"):
        assert refusal(tmp_path).endswith(f"Stop that process, or set DIR to another folder.{hint}")
    assert not (tmp_path / NAME).exists()
    other = {"host": "another", "process": 1, "since": "2024-02-29 14:02:33", "doing": "trained"}
    (tmp_path / NAME).write_text(json.dumps(other))
    assert "by process 1 on host another since 2024-02-29 14:02. " in refusal(tmp_path)
    (tmp_path / NAME).unlink()
    with claimed(tmp_path, "trained", "DIR"):
        pass


def test_without_locks_a_killed_process_of_this_machine_does_not_hold_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / NAME).write_text(json.dumps({"host": socket.gethostname(), "process": ended.pid}))
    with claimed(tmp_path, "trained", "DIR"):
        assert json.loads((tmp_path / NAME).read_text())["process"] == os.getpid()


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_without_locks_a_claim_without_an_owner_is_not_taken_over(tmp_path, monkeypatch, content):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / NAME).write_text(content)
    assert "is being trained by another process. Stop that" in refusal(tmp_path)


def test_another_error_of_the_lock_is_reported(tmp_path, monkeypatch):
    def broken(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    assert "Input/output error" in refusal(tmp_path)


# The three commands


@pytest.mark.parametrize(
    ("command", "key"), [("train", "DIR"), ("eval", "VAL.result"), ("test", "TEST.result")]
)
def test_each_command_refuses_a_claimed_folder(command, key, call, tiny, trained, tmp_path):
    folder = tmp_path / "out"
    words = ["--imgs", tiny.folder / "validation"] if command == "test" else []
    words += ["--gpus" if command != "test" else "--gpu", "cpu", "--cfg", tiny.config]
    words += ["DIR", trained] if command != "train" else []
    with claimed(folder, "trained", "DIR"):
        done = call(command, *words, key, folder)
        assert done.code == 2
        assert done.err.startswith(f"{folder} is being trained by process {os.getpid()} on host")
        assert done.err.endswith(f". Stop that process, or set {key} to another folder.\n")
        assert [path.name for path in folder.iterdir()] == [NAME]


def test_a_run_in_training_can_be_evaluated(call, tiny, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    with claimed(folder, "trained", "DIR"):
        done = call("eval", "--gpus", "cpu", "--cfg", tiny.config, "DIR", folder)
    assert done.code == 0, done.err
    assert not list(folder.rglob(NAME))


def test_the_owner_of_a_folder_is_named_without_taking_it(holder, tmp_path):
    folder = tmp_path / "run"
    assert owner_of(folder) is None
    process = holder()
    owner = owner_of(folder)
    assert (owner["process"], owner["doing"]) == (process.pid, "trained")
    assert owner_of(folder) == owner
    process.kill()
    process.wait()
    assert (folder / NAME).exists()
    assert owner_of(folder) is None


def test_without_locks_the_owner_is_the_process_that_the_file_names_if_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process, running in ((os.getpid(), True), (ended.pid, False)):
        (tmp_path / NAME).write_text(json.dumps({"host": socket.gethostname(), "process": process}))
        assert (owner_of(tmp_path) is not None) == running
