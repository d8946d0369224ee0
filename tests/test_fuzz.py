"""Damaged inputs end in a message: a few of those of benchmarks/fuzz.py, and its judgement on a command."""

import json
import subprocess
import sys

import pytest
import torch
from commands import ROOT

INPUTS = 40  # of which one runs as a process of its own


def test_a_few_damaged_inputs_end_as_they_may(tmp_path):
    words = ["--seed", "1", "--inputs", str(INPUTS), "--processes", "0.04", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/fuzz.py"), *words],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-20_000:] + done.stdout
    assert "| not allowed | 0 |" in done.stdout
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| exit code")]
    counts = {row[1].strip(): int(row[2]) for row in rows}
    assert sum(counts.values()) == INPUTS
    assert {"exit code 0", "exit code 1", "exit code 2"} <= counts.keys()


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from fuzzing import judge

    return judge


@pytest.fixture
def verdict(judge, tmp_path):
    """``verdict(code, err=..., do=...)``: the failures of a command that calls ``do`` with its folder."""
    folder = tmp_path / "world"
    for name, content in {
        "run/state.pth": b"state",
        "run/log.txt": b"a\n",
        "training.odgt": b"{}\n",
        "out/a.npy.x": b"x",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def run(code, out="", err="a message\n", do=lambda folder: None, **more):
        before = judge.snapshot(folder)
        do(folder)
        return judge.failures(judge.Ended(code, out, err, **more), folder, before)

    return run


@pytest.mark.parametrize("code", [0, 1, 2])
def test_success_and_a_message_are_allowed(verdict, code):
    assert verdict(code) == []
    assert verdict(code, do=lambda folder: (folder / "run/log.txt").write_text("a\nb\n")) == []


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ({"code": 3}, "exit code 3"),
        ({"code": 2, "err": " \n"}, "exit code 2 without a message"),
        ({"code": 1, "err": ""}, "exit code 1 without a message"),
        (
            {"code": 2, "err": "Traceback (most recent call last):\n  x\nKeyError: 1\n"},
            "a traceback in the output",
        ),
        (
            {"code": 0, "err": "/lib/a.py:593: UserWarning: odd\n  f()\n"},
            "a raw warning: /lib/a.py:593: User",
        ),
        ({"code": None, "problem": "hangs in a.py:f"}, "hangs in a.py:f"),
    ],
)
def test_what_a_command_may_not_say(verdict, said, failure):
    (found,) = verdict(**said)
    assert found.startswith(failure)


def _write(name, content):
    def do(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return do


@pytest.mark.parametrize(
    ("code", "do", "failure"),
    [
        (0, _write("new/.a.pth.part", b"x"), "an unfinished file is left over: .a.pth.part"),
        (1, _write("out/.mit-semseg.lock", b"x"), "an unfinished file is left over: .mit-semseg.lock"),
        (
            0,
            _write("new/metrics.json", b'{"a": '),
            "a written file is not whole: metrics.json (JSONDecodeError",
        ),
        (0, _write("new/encoder_epoch_1.pth", b"PK"), "a written file is not whole: encoder_epoch_1.pth"),
        (0, _write("new/a.png", b"\x89PNG"), "a written file is not whole: a.png"),
        (0, _write("new/report.html", b"<html>"), "a written file is not whole: report.html"),
        (0, _write("training.odgt", b"{}\n{}\n"), "an input was changed: training.odgt"),
        (2, _write("out/a.npy.x", b"y"), "a failing command has changed a result: out/a.npy.x"),
        (
            2,
            lambda folder: (folder / "run/state.pth").unlink(),
            "a failing command has changed a result: run/s",
        ),
    ],
)
def test_what_a_command_may_not_leave_on_the_disk(verdict, code, do, failure):
    (found,) = verdict(code, do=do)
    assert found.startswith(failure)


def test_whole_files_are_allowed(verdict):
    def do(folder):
        torch.save({"a": torch.zeros(2)}, folder / "run/state.pth")
        (folder / "metrics.json").write_text(json.dumps({"a": 1}))

    assert verdict(0, do=do) == []
