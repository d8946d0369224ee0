import atexit
import errno
import multiprocessing.synchronize
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Outcome
from forked import Command, run_python
from torch.utils.data import Dataset

from mit_semseg.config import load_config
from mit_semseg.data.loader import AUTO, Skipped, loading, raise_errors
from mit_semseg.dataset import TrainDataset
from mit_semseg.errors import ProcessError, UserError
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.runtime.log import setup_logger
from mit_semseg.training.options import train_options
from mit_semseg.training.setup import class_weights, train_dataset

CPU = torch.device("cpu")


class Squares(Dataset):
    """Item i holds i squared and the process that read it; item 3 cannot be read."""

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


class Hanging(Dataset):
    """Item 0 comes at once, the others never."""

    def __getitem__(self, index):
        if index:
            time.sleep(600)
        return {"x": torch.tensor(index)}


HALF_WAY = """
import sys, time
sys.path[:0] = sys.argv[1:]
import torch
from test_loader import Large
from mit_semseg.data.loader import loading
with loading(Large().__getitem__, range(100), workers=2, device=torch.device("cpu")) as items:
    print(next(items)["pid"], flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_workers_end_with_a_process_that_is_killed():
    with Command("-c", HALF_WAY, Path(__file__).parent) as process:
        assert process.out.readline().strip().isdecimal()
        process.send_signal(signal.SIGKILL)
        process.out.read()  # a worker that is left would hold the output open


def all_of(read, indices, workers, device=CPU):
    with loading(read, indices, workers=workers, device=device) as items:
        return list(items)


def values(items):
    return [item["x"].item() if isinstance(item, dict) else str(item) for item in items]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_items_come_in_the_order_of_the_indices_with_errors_in_their_places(workers):
    items = all_of(Squares().__getitem__, [5, 1, 3, 2, 1], workers)
    assert values(items) == [25, 1, "three.jpg is empty.", 4, 1]


def test_workers_are_other_processes_and_no_more_than_there_are_items():
    pids = {item["info"] for item in all_of(Squares().__getitem__, [1, 2], workers=0)}
    assert pids == {str(os.getpid())}
    pids = {item["info"] for item in all_of(Squares().__getitem__, [1], workers=50)}
    assert str(os.getpid()) not in pids
    assert len(pids) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_mistake_is_raised_in_its_turn_without_a_worker_in_its_message(workers):
    with loading(Squares().__getitem__, [1, 3, 2], workers=workers, device=CPU) as loaded:
        items = raise_errors(loaded)
        assert next(items)["x"] == 1
        with pytest.raises(UserError, match=r"^three\.jpg is empty\.$"):
            next(items)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_of_ours_is_not_taken_for_the_users(workers):
    with pytest.raises(ZeroDivisionError):
        all_of(Squares().__getitem__, [99], workers)


# Workers that die


def test_the_death_of_a_worker_is_reported_with_what_to_do():
    with pytest.raises(ProcessError) as caught:
        all_of(Squares().__getitem__, [1, 666, 2], workers=1)
    assert re.match(r"A process that loads data has died: DataLoader worker \(pid", str(caught.value))
    assert str(caught.value).endswith("lower TRAIN.workers, or set it to 0.")
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_while_the_block_does_something_else_is_reported_too():
    with pytest.raises(ProcessError, match="A process that loads data has died"):
        take_one_and_wait([1, 2, 666, *range(4, 50)])


def take_one_and_wait(indices):
    with loading(Squares().__getitem__, indices, workers=1, device=CPU) as items:
        next(items)
        time.sleep(60)


def killed(*args):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("command", ["train", "eval", "test"])
def test_every_command_reports_the_death_of_a_worker(command, call, tiny, trained, tmp_path, monkeypatch):
    if command == "train":
        # A dry run reads in this process.
        monkeypatch.setattr("mit_semseg.training.train.dry_run", lambda *args: None)
        monkeypatch.setattr(TrainDataset, "sub_batch", killed)
        words = ["--gpus", "cpu", "DIR", tmp_path / "run"]
    else:
        monkeypatch.setattr("mit_semseg.dataset.ValDataset.as_bytes", killed)
        monkeypatch.setattr("mit_semseg.dataset.TestDataset.as_bytes", killed)
        words = (
            ["--gpus", "cpu"] if command == "eval" else ["--gpu", "cpu", "--imgs", tiny.folder / "validation"]
        )
        words += ["DIR", trained, "VAL.result", tmp_path, "TEST.result", tmp_path / "out"]
    done = call(command, *words, "--cfg", tiny.config, "TRAIN.workers", 1)
    assert done.code == 1
    assert re.match(r"A process that loads data has died: DataLoader worker \(pid", done.err)


def test_counting_labels_for_class_weights_reports_the_death_of_a_worker(tiny, monkeypatch):
    words = ["TRAIN.class_weights", "enet", "TRAIN.workers", "1"]
    options = train_options(load_config(str(tiny.config), words))
    monkeypatch.setattr(TrainDataset, "label_counts", killed)
    with pytest.raises(ProcessError, match="A process that loads data has died"):
        class_weights(options, train_dataset(options), ProcessInfo(0, 1, CPU))


def test_another_runtime_error_stays_as_it_is():
    with (
        pytest.raises(RuntimeError, match=r"^out of luck$"),
        loading(Squares().__getitem__, [1], workers=1, device=CPU),
    ):
        raise RuntimeError("out of luck")


# Items that do not arrive


class Unsendable(Dataset):
    def __getitem__(self, index):
        return {"x": torch.zeros(3), "lock": threading.Lock()}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, workers are spawned")
def test_an_item_that_cannot_be_sent_ends_its_worker_with_the_reason(capfd):
    with pytest.raises(ProcessError, match="A process that loads data has died"):
        all_of(Unsendable().__getitem__, [1, 2], workers=1)
    assert (
        "A loaded item could not be sent: TypeError: cannot pickle '_thread.lock'" in capfd.readouterr().err
    )


class Pictures(Dataset):
    """3 MB in the memory layout of a decoded photo, an empty tensor, and an array."""

    def __getitem__(self, index):
        pixels = torch.arange(3_000_000).remainder(251 + index).byte().view(2, 500, 1000, 3)
        return {"x": pixels.permute(0, 3, 1, 2)[1:], "none": torch.empty(0, 4), "label": np.arange(index)}


def check_pictures(loaded):
    for index, item in enumerate(loaded):
        expected = Pictures()[index]
        assert torch.equal(item["x"], expected["x"])
        assert item["x"].stride() == expected["x"].stride()
        assert item["none"].shape == (0, 4)
        assert item["label"].tolist() == list(range(index))
        item["x"].zero_()  # it can be written


def no_memory(name):
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has such files")
@pytest.mark.parametrize("files", [True, False])
def test_tensors_arrive_unchanged_and_without_shared_memory_of_limited_size(files, monkeypatch):
    if not files:
        monkeypatch.setattr(os, "memfd_create", no_memory)
    with loading(Pictures().__getitem__, range(9), workers=1, device=CPU) as items:
        check_pictures([next(items)])
        mapped = Path("/proc/self/maps").read_text()
        assert ("item of a loader" in mapped) == files
        assert "/dev/shm/torch" not in mapped
    check_pictures(all_of(Pictures().__getitem__, range(3), workers=2))


SMALL_SHARED_MEMORY = """
mount -t tmpfs -o size={size} tmpfs /dev/shm && echo mounted && exec "$0" -c '
import sys
sys.path[:0] = sys.argv[1:]
import torch
from test_loader import Pictures, all_of, check_pictures
check_pictures(all_of(Pictures().__getitem__, range(20), workers=2))
print("all")
' "$@"
"""


def in_small_shared_memory(size):
    if shutil.which("unshare") is None:
        pytest.skip("the system has no unshare")
    folders = [str(folder) for folder in Path(__file__).parents[:3]]
    words = ["unshare", "-Urm", "sh", "-c", SMALL_SHARED_MEMORY.format(size=size), sys.executable, *folders]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    if not done.stdout.startswith("mounted"):
        pytest.skip(f"this system forbids a mount of one's own: {done.stderr.strip()}")
    return done


def test_a_megabyte_of_shared_memory_is_enough():
    done = in_small_shared_memory("1m")
    assert (done.stdout, done.stderr) == ("mounted\nall\n", "")


@pytest.mark.parametrize("missing", [0, 4, 12])  # for the first queue, the event, a worker's queue
def test_shared_memory_without_room_for_semaphores_is_named(monkeypatch, missing):
    def scarce(*args, make=multiprocessing.synchronize._multiprocessing.SemLock):
        made.append(args)
        if len(made) > missing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return make(*args)

    made: list[object] = []
    scarce._rebuild = None  # type: ignore[attr-defined]
    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", scarce)
    with pytest.raises(ProcessError) as caught:
        all_of(Squares().__getitem__, [1, 2], workers=2)
    assert not multiprocessing.active_children()
    text = (
        r"can't be started: No space left on device\. /dev/shm holds \S+ MB, of which \S+ MB are free; in a "
    )
    text += (
        r"container, docker run --shm-size 2g or --ipc host enlarges it\. Set TRAIN\.workers lower, or to 0 "
    )
    assert re.search(text, str(caught.value))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_if_a_worker_cannot_be_started_the_others_end(monkeypatch):
    def once(fork=os.fork):
        if forked:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        forked.append(True)
        return fork()

    forked: list[bool] = []
    monkeypatch.setattr("mit_semseg.data.loader.cpu_count", lambda: 2)
    monkeypatch.setattr(os, "fork", once)
    with pytest.raises(ProcessError, match="can't be started: Resource temporarily unavailable"):
        all_of(Squares().__getitem__, [1, 2], workers=2)
    assert not multiprocessing.active_children()


class Slow(Dataset):
    """Item 4 never comes; the others take their time."""

    def __getitem__(self, index):
        time.sleep(600 if index == 4 else 0.4)
        return {"x": torch.tensor(index)}


def test_a_slow_worker_may_work_on_and_one_that_hangs_is_ended(monkeypatch, caplog):
    setup_logger().propagate = True
    monkeypatch.setattr("mit_semseg.data.loader._SLOW_S", 0.6)
    monkeypatch.setattr("mit_semseg.data.loader._HUNG_S", 2.0)
    assert values(all_of(Slow().__getitem__, [0, 1, 2, 3, 5, 6], workers=1)) == [0, 1, 2, 3, 5, 6]
    assert caplog.messages == []
    with pytest.raises(ProcessError, match=r"^No data has arrived for 0 minutes, so the processes"):
        all_of(Slow().__getitem__, [0, 4], workers=1)
    assert len(caplog.messages) == 1
    assert "The processes that load it are running" in caplog.text


# The end of the workers


def stumble(read, workers):
    with loading(read, range(100), workers=workers, device=CPU) as items:
        next(items)
        raise ValueError("stumbled")


@pytest.mark.parametrize("dataset", [Squares(), Large()])
def test_workers_end_with_the_block_even_if_a_traceback_holds_the_iterator(dataset):
    with pytest.raises(ValueError, match="stumbled") as caught:
        stumble(dataset.__getitem__, workers=2)
    assert not multiprocessing.active_children()
    assert caught.tb is not None


def test_a_worker_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr("mit_semseg.data.loader._END_S", 0.5)
    start = time.monotonic()
    with loading(Hanging().__getitem__, range(9), workers=1, device=CPU) as items:
        assert next(items)["x"] == 0
    assert not multiprocessing.active_children()
    assert time.monotonic() - start < 5


def test_a_killed_worker_is_known_to_have_ended_even_if_the_thread_that_ends_it_is_slow(monkeypatch):
    def slow_waitpid(pid, options, waitpid=os.waitpid):
        first = threading.current_thread().name == "end of the workers"
        time.sleep(0 if first else 0.1)
        ended = waitpid(pid, options)
        time.sleep(
            0.4 if first else 0
        )  # the system has forgotten the process, and Python does not know it yet
        return ended

    monkeypatch.setattr("mit_semseg.data.loader._END_S", 0.5)
    monkeypatch.setattr(os, "waitpid", slow_waitpid)
    with loading(Hanging().__getitem__, range(9), workers=1, device=CPU) as items:
        next(items)
    assert not multiprocessing.active_children()


HELD = """
import atexit, multiprocessing, sys, time
import torch
from mit_semseg.data.loader import loading

def read(index):
    return {"index": index, "x": bytes(10**6)}

def work():
    with loading(read, range(100), workers=1, device=torch.device("cpu")) as items:
        yield from items

def own_child():
    time.sleep(600)

if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=own_child, daemon=True)
    child.start()
    # Registered before the block, so that it runs after the block's own exit handler.
    atexit.register(lambda: print(child.is_alive(), len(multiprocessing.active_children()), flush=True))
    held = work()
    print(next(held)["index"], flush=True)
    {end}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(("end", "code"), [("pass", 0), ("raise SystemExit(7)", 7)])
def test_at_exit_the_workers_of_a_held_loader_end_and_other_children_of_the_program_live_on(end, code):
    assert run_python("-c", HELD.replace("{end}", end)) == Outcome(code, "0\nTrue 1\n", "")


def test_after_the_block_no_exit_handler_is_left(monkeypatch):
    left = []
    monkeypatch.setattr(atexit, "register", left.append)
    monkeypatch.setattr(atexit, "unregister", left.remove)
    with loading(Squares().__getitem__, [1, 2], workers=1, device=CPU):
        assert len(left) == 1
    with suppress(ProcessError):
        all_of(Squares().__getitem__, [666], workers=1)
    assert left == []


# Its other promises


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_draws_nothing_from_the_generator_of_the_training(workers):
    before = torch.random.get_rng_state()
    values(all_of(Squares().__getitem__, [1, 2], workers))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_by_default_there_is_one_worker_if_the_model_computes_on_the_cpu():
    pids = {item["info"] for item in all_of(Squares().__getitem__, range(4, 9), workers=AUTO)}
    assert len(pids - {str(os.getpid())}) == 1


def test_skipped_files_are_logged_once_and_end_the_run_beyond_one_percent(capsys):
    setup_logger()
    skipped = Skipped(records=200)
    skipped.add(["a.jpg is empty."])
    skipped.add(["a.jpg is empty.", "b.jpg is empty."])
    assert capsys.readouterr().out.count("Skipped") == 2
    with pytest.raises(UserError) as caught:
        skipped.add(["c.jpg is empty."])
    assert "3 of 200 examples cannot be used" in str(caught.value)
    assert "c.jpg is empty." in str(caught.value)


@pytest.mark.parametrize(("records", "allowed"), [(1, 1), (99, 1), (199, 1), (200, 2), (1000, 10)])
def test_one_file_may_be_skipped_in_any_list_and_one_percent_in_long_ones(records, allowed):
    skipped = Skipped(records)
    skipped.add(f"{number}.jpg is empty." for number in range(allowed))
    with pytest.raises(UserError, match=f"^{allowed + 1} of {records} .* allows {allowed}: 1% of the list"):
        skipped.add(["one.jpg is empty."])
