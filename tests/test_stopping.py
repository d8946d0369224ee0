"""Requests to stop: one is answered when it suits, a second one is obeyed at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from mit_semseg.launch import run
from mit_semseg.stopping import TOGETHER_S, Agreement, requests

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_and_again_soon_after_the_same_one(number):
    before = signal.getsignal(number)
    with requests() as asked:
        assert Agreement(asked).number() == 0
        os.kill(os.getpid(), number)
        wait_for(lambda: asked.number)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        assert Agreement(asked).number() == number
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_there_are_no_requests():
    numbers = []

    def work():
        with requests() as asked:
            numbers.append(asked.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert numbers == [0]


PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
from mit_semseg.stopping import requests
with requests() as asked:
    print("ready", flush=True)
    while not asked.number:
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_process_at_once(number, code):
    command = [sys.executable, "-c", PROGRAM, str(ROOT)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == "asked\n"
    time.sleep(TOGETHER_S + 0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=5)
    assert (process.returncode, err) == (code, "Ended at once.\n")


def loop_until_asked(place):
    """The iterations done when a signal to the second process alone has stopped all of them."""
    with requests() as asked:
        agreement = Agreement(asked)
        iterations = 0
        while not agreement.number():
            iterations += 1
            if iterations == 50 and place.rank == 1:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.002 * place.rank)
        agreement.wait()
    return iterations, [int(n) for n in torch.distributed.get_process_group_ranks(None)]


def iterations_of_all(place):
    from mit_semseg.distributed import gather_from_processes

    return gather_from_processes(loop_until_asked(place)[0])


def test_a_signal_to_one_process_stops_all_behind_the_same_iteration():
    iterations = run(iterations_of_all, [CPU] * 2, timeout_s=60)
    assert iterations[0] == iterations[1] >= 50
