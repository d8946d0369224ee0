import io
import re
import sys

from mit_semseg.runtime.log import setup_logger
from mit_semseg.runtime.progress import ProgressCounter


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_there_is_a_line_now_and_then(capsys):
    setup_logger()
    with ProgressCounter(3, "images", line_s=0) as counter:
        for _ in range(2):
            counter.add()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "Segmenting: 2 of 3 images, " in lines[1]
    assert " a second, left " in lines[1]
    with ProgressCounter(0, "frames", what="a.mp4", line_s=0) as counter:
        counter.add()
    assert "a.mp4: 1 frames, " in capsys.readouterr().out
    with ProgressCounter(3, "images", enabled=False, line_s=0) as counter:
        counter.add()
    assert capsys.readouterr().out == ""


def test_what_was_done_before_counts_but_not_for_the_speed(capsys):
    setup_logger()
    with ProgressCounter(
        10, "images", what="Evaluating", done=5, note=lambda: "mean IoU 0.2500", line_s=0
    ) as counter:
        counter.add(2)
        counter.add()
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    words = r"mean IoU 0\.2500, [\d.]+ a second, left [\d:]+"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d  Evaluating: 7 of 10 images, {words}", first)
    assert "Evaluating: 8 of 10 images, " in second
    assert err == ""


def test_what_is_short_says_nothing(capsys):
    setup_logger()
    with ProgressCounter(3, "images") as counter:
        counter.add(3)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_shows_the_note_and_the_time_left(capsys, monkeypatch):
    setup_logger()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressCounter(10, "images", what="Evaluating", done=5, note=lambda: "mean IoU 0.2500") as counter:
        for count in (1, 2, 2):
            counter.add(count)
        counter._bar.refresh()
        last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("Evaluating: 100%")
    assert "10/10" in last
    assert "mean IoU 0.2500" in last
    assert capsys.readouterr().out == ""
