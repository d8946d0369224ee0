"""Requests to stop: the program answers the first one when it can; a second one ends it at once."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from commands import Outcome
from forked import Command, in_processes, run_python
from torch.multiprocessing import ProcessRaisedException

from mit_semseg.runtime import stopping
from mit_semseg.runtime.stopping import SAME_REQUEST_S, Interrupted, StopAgreement, StopRequest, stop_requests


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_a_request_and_one_soon_after_it_is_the_same_request(number):
    before = signal.getsignal(number)
    with stop_requests() as request:
        agreement = StopAgreement(request, timeout_s=60)
        assert agreement.signal() == 0
        os.kill(os.getpid(), number)
        wait_for(lambda: request.signal)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        assert agreement.signal() == number
    assert signal.getsignal(number) is before


def test_the_announcement_of_a_scheduler_counts_as_sigterm():
    """SLURM sends it before the time limit: ``sbatch --signal=USR1@90``."""
    before = signal.getsignal(signal.SIGUSR1)
    with stop_requests() as request:
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_for(lambda: request.signal)
        assert StopAgreement(request, timeout_s=60).signal() == signal.SIGTERM
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_request_just_before_a_wait_ends_it_even_if_the_watcher_is_late():
    request = StopRequest()
    request.handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted), request.raising():
        raise AssertionError("the wait began")


def test_a_closed_terminal_is_no_request_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            wait_for(lambda: request.signal)
            assert request.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_there_are_no_requests():
    numbers = []

    def work():
        with stop_requests() as request:
            numbers.append(request.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert numbers == [0]


PROGRAM = """
import os, sys, time
from mit_semseg.runtime.stopping import stop_requests
if sys.argv[1:]:
    import resource
    limit = int(sys.argv[1]) + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(int(sys.argv[1]))]
with stop_requests() as request:
    print("ready", flush=True)
    while not request.signal:
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("open_files", [0, 1200])  # select.select knows descriptors up to 1023
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_process_at_once(number, code, open_files):
    if open_files:
        resource = pytest.importorskip("resource")
        if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < open_files + 100:
            pytest.skip("the system allows fewer open files")
    with Command("-c", PROGRAM, *([open_files] if open_files else [])) as process:
        assert process.out.readline() == "ready\n"
        process.send_signal(number)
        watchdog = threading.Timer(20, process.send_signal, [signal.SIGKILL])  # if the signal has no effect
        watchdog.start()
        assert process.out.readline() == "asked\n"
        watchdog.cancel()
        time.sleep(SAME_REQUEST_S + 0.1)
        process.send_signal(number)
        assert process.finish(timeout=5) == Outcome(code, "", "Ended at once.\n")


def loop_until_asked(process):
    """The iterations done when a signal to the second process alone has stopped all of them."""
    with stop_requests() as request:
        agreement = StopAgreement(request, timeout_s=60)
        iterations = 0
        while not agreement.signal():
            iterations += 1
            if iterations == 50 and process.rank == 1:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.002 * process.rank)
        agreement.wait()
    return iterations, [int(n) for n in torch.distributed.get_process_group_ranks(None)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_ends_a_wait_at_once_and_later_ones_before_they_begin(number):
    start = time.monotonic()
    with stop_requests() as request:
        agreement = StopAgreement(request, timeout_s=60)
        with agreement.interruptible():
            pass
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        with pytest.raises(Interrupted) as caught, agreement.interruptible():
            time.sleep(60)
        assert caught.value.signal == number
        wait_for(lambda: request.signal)
        os.kill(os.getpid(), number)  # soon after the first: the same request
        time.sleep(0.1)
        with pytest.raises(Interrupted), agreement.interruptible():
            time.sleep(60)
        assert agreement.signal() == number
    assert time.monotonic() - start < 20


def wait_longer_than_a_request_allows(process):
    stopping.WAIT_S = 0.5
    with stop_requests() as request:
        agreement = StopAgreement(request, timeout_s=60)
        for number in range(2):
            with agreement.interruptible():
                if process.rank == number == 1:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(600)
            agreement.signal()


IN_TWO_PROCESSES = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from mit_semseg.runtime.launch import run_processes
from test_stopping import wait_longer_than_a_request_allows
run_processes(wait_longer_than_a_request_allows, [torch.device("cpu")] * 2, timeout_s=600)
"""


def test_one_of_several_processes_that_waits_too_long_after_a_request_ends_the_run():
    start = time.monotonic()
    outcome = run_python("-c", IN_TWO_PROCESSES, Path(__file__).parent, forking=True)
    assert outcome.code == 130
    assert time.monotonic() - start < 200
    assert "Ended by SIGINT: this process waited for data or validated for another 0.5 s" in outcome.err


def iterations_of_all(process):
    from mit_semseg.runtime.distributed import gather_from_processes

    return gather_from_processes(loop_until_asked(process)[0])


def test_a_signal_to_one_process_stops_all_after_the_same_iteration():
    iterations = in_processes(2, iterations_of_all)
    assert iterations[0] == iterations[1] >= 50


def wait_for_a_process_that_hangs(process):
    with stop_requests() as request:
        agreement = StopAgreement(request, timeout_s=2)
        if process.rank == 1:
            time.sleep(6)
        agreement.signal()
        agreement.signal()


def test_an_agreement_waits_no_longer_than_its_timeout():
    with pytest.raises(ProcessRaisedException, match=r"(?s)Process 0 terminated.*Timed out waiting 2000ms"):
        in_processes(2, wait_for_a_process_that_hangs, timeout_s=600)
