"""Processes that die and hang, with functions that a process of its own can import."""

import os
import signal
import time

import pytest

from mit_semseg.data.check.pool import Death, run_guarded
from mit_semseg.errors import ProcessError


def work(job, mark):
    mark(1)
    if job == "exit":
        os._exit(3)
    if job == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "hang":
        time.sleep(1000)
    return job * 2


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_job_is_done_once(workers):
    found = list(run_guarded(work, iter(range(40)), workers=workers))
    assert sorted(found) == [(k, 2 * k) for k in range(40)]


def test_jobs_that_kill_their_process_are_named_and_the_others_done():
    jobs = ["a", "exit", "b", "kill", "c", "d", "e", "f", "g", "h"]
    found = dict(run_guarded(work, jobs, workers=1))
    assert found.pop(1) == Death(1, False, "ended with exit code 3")
    assert found.pop(3) == Death(1, False, "ended by signal 9, maybe for want of memory")
    assert found == {k: job * 2 for k, job in enumerate(jobs) if k not in (1, 3)}


def test_a_job_that_hangs_is_given_up():
    found = dict(run_guarded(work, ["a", "hang", "b"], workers=1, patience=4))
    assert found == {0: "aa", 1: Death(1, True, "nothing for 4 seconds"), 2: "bb"}


def test_processes_that_die_from_the_start_end_it_all():
    with pytest.raises(ProcessError, match=r"end at once \(ended with exit code 3\)"):
        list(run_guarded(work, ["exit"] * 20, workers=1))


def test_no_process_is_left_when_the_caller_stops_early():
    from multiprocessing import active_children

    results = run_guarded(work, range(100), workers=2)
    next(results)
    results.close()
    assert not active_children()
