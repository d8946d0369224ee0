import re

import pytest

from mit_semseg.engine.progress import Progress
from mit_semseg.log import get_logger, setup_logger


def steps(progress, losses):
    for loss in losses:
        progress.loaded()
        progress.step(loss, accuracy=loss / 10, images=3)


def test_a_line_shows_the_means_since_the_last_one(capsys):
    setup_logger()
    with Progress(2, 5, 4, enabled=True) as progress:
        steps(progress, [1.0, 3.0])
        assert progress.show([0.1, 0.1]) == (2.0, pytest.approx(0.2))
        steps(progress, [5.0])
        assert progress.show([0.1, 0.01]) == (5.0, 0.5)
    first, second = capsys.readouterr().out.splitlines()
    number = r"[\d,.]+"
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d  Epoch 2/5  2/4  loss 2\.0000  acc 20\.00%  lr 1\.00e-01  "
        rf"{number} img/s  data \d+%  left [\d:]+",
        first,
    )
    assert "Epoch 2/5  3/4  loss 5.0000  acc 50.00%  lr 1.00e-01 1.00e-02  " in second


def test_other_processes_than_the_first_stay_silent(capsys):
    setup_logger(distributed_rank=1)
    with Progress(1, 1, 1, enabled=False) as progress:
        steps(progress, [1.0])
        progress.show([0.1])
    assert capsys.readouterr() == ("", "")


def test_an_error_leaves_the_logger_as_it_was(capsys):
    logger = setup_logger()
    before = list(logger.handlers)
    with pytest.raises(ZeroDivisionError), Progress(1, 1, 1, enabled=True):
        raise ZeroDivisionError
    assert get_logger().handlers == before
    logger.info("still here")
    assert "still here" in capsys.readouterr().out


def test_a_logger_that_is_set_up_twice_prints_once(capsys):
    setup_logger()
    setup_logger().info("once")
    assert capsys.readouterr().out.count("once") == 1
