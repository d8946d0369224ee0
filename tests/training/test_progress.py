import math
import re
import time

import pytest
import torch

from mit_semseg.runtime.log import get_logger, setup_logger
from mit_semseg.training.counters import Window
from mit_semseg.training.progress import Progress, peak_memory
from mit_semseg.training.step import StepResult


def steps(progress, losses):
    for loss in losses:
        progress.loaded()
        progress.step(StepResult(loss, loss / 10, pixels=7), images=3)


def progress_of(*numbers, enabled=True, done=0, window=None):
    window = window or Window()
    return Progress(*numbers, done=done, window=window, device=torch.device("cpu"), enabled=enabled)


def test_a_line_shows_the_means_since_the_last_one(capsys):
    setup_logger()
    with progress_of(2, 5, 4) as progress:
        steps(progress, [1.0, 3.0])
        assert progress.show([0.1, 0.1])[:2] == (2.0, pytest.approx(0.2))
        steps(progress, [5.0])
        assert progress.show([0.1, 0.01])[:2] == (5.0, 0.5)
    first, second = capsys.readouterr().out.splitlines()
    number = r"[\d,.]+"
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d  Epoch 2/5  2/4  loss 2\.0000  acc 20\.00%  lr 1\.00e-01  "
        rf"{number} img/s  data \d+%  mem {number} GB  left [\d:]+",
        first,
    )
    assert "Epoch 2/5  3/4  loss 5.0000  acc 50.00%  lr 1.00e-01 1.00e-02  " in second


def test_a_window_that_an_interruption_cut_in_two_is_shown_as_one(capsys):
    setup_logger()
    window = Window(loss=7.0, accuracy=0.7, pixels=7, steps=1)
    with progress_of(2, 5, 4, done=1, window=window) as progress:
        steps(progress, [3.0])
        line = progress.show([0.1])
    assert line[:2] == (2.0, pytest.approx(0.2))
    assert window == Window()
    assert "Epoch 2/5  2/4  loss 2.0000" in capsys.readouterr().out


def test_means_are_those_of_a_labelled_pixel(capsys):
    setup_logger()
    with progress_of(1, 1, 5) as progress:
        for result in (StepResult(1.0, 0.5, 100), StepResult(0.0, 0.0, 0), StepResult(3.0, 0.0, 300)):
            progress.step(result, images=1)
        line = progress.show([0.1])
        assert (line.loss, line.accuracy) == (2.5, 0.125)
        progress.step(StepResult(0.0, 0.0, 0), images=1)
        line = progress.show([0.1])
        assert math.isnan(line.loss)
        assert math.isnan(line.accuracy)
        steps(progress, [2.0])
        assert progress.show([0.1])[:2] == (2.0, 0.2)
    first, second, third = capsys.readouterr().out.splitlines()
    assert "3/5  loss 2.5000  acc 12.50%  lr " in first
    assert first.endswith("  (no labelled pixel in 1 of 3 iterations)")
    assert "4/5  no labelled pixel  lr " in second
    assert "5/5  loss 2.0000  acc 20.00%  lr " in third
    assert "no labelled" not in third


def test_a_pause_counts_neither_as_waiting_nor_against_the_speed(capsys):
    setup_logger()
    with progress_of(1, 1, 9) as progress:
        steps(progress, [1.0])
        time.sleep(0.5)
        progress.pause()
        steps(progress, [1.0])
        line = progress.show([0.1])
    assert line.images_per_s > 6 / 0.5


def test_memory_is_the_peak_of_the_process_on_the_cpu():
    before = peak_memory(torch.device("cpu"))
    block = bytearray(int(before * 1e9) + 10**8)
    assert before + 0.09 < peak_memory(torch.device("cpu")) < 3 * before + 0.2
    del block


def test_other_processes_than_the_first_stay_silent(capsys):
    setup_logger(distributed_rank=1)
    with progress_of(1, 1, 1, enabled=False) as progress:
        steps(progress, [1.0])
        progress.show([0.1])
    assert capsys.readouterr() == ("", "")


def test_an_error_leaves_the_logger_as_it_was(capsys):
    logger = setup_logger()
    before = list(logger.handlers)
    with pytest.raises(ZeroDivisionError), progress_of(1, 1, 1):
        raise ZeroDivisionError
    assert get_logger().handlers == before
    logger.info("still here")
    assert "still here" in capsys.readouterr().out


def test_a_logger_that_is_set_up_twice_prints_once(capsys):
    setup_logger()
    setup_logger().info("once")
    assert capsys.readouterr().out.count("once") == 1
