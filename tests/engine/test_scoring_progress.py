import io
import re
import sys

import torch

from mit_semseg.distributed import Place
from mit_semseg.engine import scoring_progress
from mit_semseg.engine.scoring_progress import ScoringProgress
from mit_semseg.log import setup_logger
from mit_semseg.metrics import ConfusionMatrix


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(place, steps=(2, 1)):
    matrix = ConfusionMatrix(2)
    with ScoringProgress(place, total=10, done=5, matrix=matrix) as progress:
        for images in steps:
            matrix.update([0, 0], [0, 1])
            progress.step(images)


def place(rank=0, size=1):
    return Place(rank, size, torch.device("cpu"))


def test_without_a_terminal_a_line_comes_now_and_then(capsys, monkeypatch):
    setup_logger()
    monkeypatch.setattr(scoring_progress, "EVERY_S", 0)
    run(place(size=2))
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    words = r"mean IoU 0\.2500  [\d.]+ img/s  left [\d:]+"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d  Evaluating \(process 1 of 2\)   7/10  {words}", first)
    assert "  8/10  " in second
    assert err == ""


def test_a_short_evaluation_says_nothing_and_neither_do_other_processes(capsys, monkeypatch):
    setup_logger()
    run(place())
    monkeypatch.setattr(scoring_progress, "EVERY_S", 0)
    run(place(1, 2))
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_shows_mean_iou_and_time_left(capsys, monkeypatch):
    setup_logger()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run(place(), steps=(1, 2, 2))
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("Evaluating: 100%")
    assert "10/10" in last
    assert "mean_iou=0.2500" in last
    assert capsys.readouterr().out == ""
