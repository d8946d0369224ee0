"""Processes that die and hang, with functions that a new process can import."""

import os
import signal
import time
from functools import partial

import pytest

from mit_semseg.dataset_tools.pool import WorkerDeath, run_guarded
from mit_semseg.errors import ProcessError, UserError


def work(job, mark):
    mark(1)
    if job == "exit":
        os._exit(3)
    if job == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "hang":
        time.sleep(1000)
    if job == "refuse":
        raise UserError("the disk is full")
    return job * 2


def write_slowly(folder, job, mark):
    (folder / f"{job}.begun").touch()
    time.sleep(0.2)
    (folder / f"{job}.done").touch()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_job_is_done_once(workers):
    found = list(run_guarded(work, iter(range(40)), workers=workers))
    assert sorted(found) == [(k, 2 * k) for k in range(40)]


def test_jobs_that_kill_their_process_are_named_and_the_others_done():
    jobs = ["a", "exit", "b", "kill", "c", "d", "e", "f", "g", "h"]
    found = dict(run_guarded(work, jobs, workers=1))
    assert found.pop(1) == WorkerDeath(1, False, "exited with code 3")
    assert found.pop(3) == WorkerDeath(1, False, "killed by signal 9, possibly out of memory")
    assert found == {k: job * 2 for k, job in enumerate(jobs) if k not in (1, 3)}


def test_a_job_that_hangs_is_ended():
    found = dict(run_guarded(work, ["a", "hang", "b"], workers=1, patience=4))
    assert found == {0: "aa", 1: WorkerDeath(1, True, "no result within 4 seconds"), 2: "bb"}


def test_processes_that_die_from_the_start_end_it_all():
    with pytest.raises(ProcessError, match=r"before they finish a single file \(exited with code 3\)"):
        list(run_guarded(work, ["exit"] * 20, workers=1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_user_error_reaches_the_caller(workers):
    with pytest.raises(UserError, match="the disk is full"):
        list(run_guarded(work, ["a", "refuse", "b"], workers=workers))


def test_when_the_caller_stops_early_jobs_in_progress_are_finished_and_no_process_is_left(tmp_path):
    from multiprocessing import active_children

    results = run_guarded(partial(write_slowly, tmp_path), range(100), workers=2)
    next(results)
    results.close()
    assert not active_children()
    begun, done = ({path.stem for path in tmp_path.glob(f"*.{end}")} for end in ("begun", "done"))
    assert begun == done
    assert len(done) < 20
