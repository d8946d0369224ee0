"""An evaluation that was cut off goes on with VAL.resume, to the files of one that was not."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES = 9
ON_REQUEST = ("VAL.boundary_iou", True, "VAL.calibration", True)


@pytest.fixture
def listed(own_tiny):
    """The tiny dataset, whose validation list names its three images three times each."""
    return lengthened(own_tiny, IMAGES)


def lengthened(data, images):
    lines = (data.folder / "validation.odgt").read_text().splitlines(keepends=True)
    (data.folder / "validation.odgt").write_text("".join(lines[k % 3] for k in range(images)))
    return data


@pytest.fixture
def score(listed, trained, call, tmp_path):
    """``score("VAL.resume", True)`` evaluates into ``tmp_path / "result"``."""

    def run(*words, folder=tmp_path / "result"):
        fixed = ("--gpus", "cpu", "--cfg", listed.config, "DIR", trained, "VAL.result", folder)
        return call("eval", *fixed, *ON_REQUEST, *words)

    return run


def damaged(data, k):
    """An image that can't be read until the context ends."""
    return changed(data.folder / f"validation/{k}.jpg", b"")


@contextmanager
def changed(file, content):
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def results(folder):
    """The content of all files, without the speed and the folder's name."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics.pop("images_per_second")
    metrics.pop("config_sha256")
    metrics["config"]["VAL"].pop("result")
    page = (folder / "report.html").read_text(encoding="utf-8").replace(str(folder), "")
    page = re.sub(r"<small>[\d.]+ a second</small>|<small></small>", "", page)
    names = sorted(path.name for path in folder.iterdir())
    return names, metrics, (folder / "confusion.npy").read_bytes(), page


def lines(folder):
    return [line for file in sorted((folder / "scored").iterdir()) for line in file.read_bytes().splitlines()]


def test_whatever_was_on_the_disk_when_it_was_killed_the_result_is_the_same(score, listed, tmp_path):
    assert score(folder=tmp_path / "whole").code == 0
    expected = results(tmp_path / "whole")
    with damaged(listed, 2):
        assert score().code == 2
    assert len(lines(tmp_path / "result")) == 1 + 2  # the settings, and the two images before the damaged one
    (file,) = (tmp_path / "result" / "scored").iterdir()
    content = file.read_bytes()
    first, second = (content.index(b"\n", start) + 1 for start in (0, content.index(b"\n") + 1))
    for kept in (0, first // 2, first, first + 9, second - 1, second, len(content) - 1, len(content)):
        folder = tmp_path / f"cut_{kept}"
        (folder / "scored").mkdir(parents=True)
        (folder / "scored" / file.name).write_bytes(content[:kept])
        done = score("VAL.resume", True, folder=folder)
        assert done.code == 0, done.err
        scored = (kept >= second - 1) + (kept >= len(content) - 1)  # a line is complete before it is ended
        assert (f"Going on: {scored} of {IMAGES} images are scored" in done.out) == (scored > 0)
        assert results(folder) == expected


def test_an_image_is_scored_once_and_its_picture_is_there(score, listed, tmp_path):
    lengthened(listed, 3)
    with damaged(listed, 2):
        score("VAL.visualize", True)
    pictures = [tmp_path / "result" / f"validation/{k}.png" for k in range(3)]
    assert [picture.is_file() for picture in pictures] == [True, True, False]
    with damaged(listed, 0), damaged(listed, 1):  # which would be noticed
        done = score("VAL.resume", True, "VAL.visualize", True)
    assert done.code == 0, done.err
    assert "Going on: 2 of 3 images are scored" in done.out
    assert all(picture.is_file() for picture in pictures)


def test_a_damaged_image_among_many_is_named_with_the_way_to_go_on(score, listed, tmp_path):
    with damaged(listed, 1):
        done = score()
    assert done.code == 2
    file, records = listed.folder / "validation/1.jpg", listed.folder / "validation.odgt"
    assert done.err == (
        f"{file} is empty. It stands in line 2 of {records}. "
        "What was scored so far is kept: VAL.resume True goes on with it.\n"
    )
    assert [path.name for path in (tmp_path / "result").iterdir()] == ["scored"]
    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    assert f"[Eval Summary]: {IMAGES} images" in done.out


def test_without_resume_what_was_scored_is_dropped_and_that_is_said(score, listed, tmp_path):
    with damaged(listed, 2):
        score()
    done = score()
    assert done.code == 0, done.err
    assert (
        f"scored, in {tmp_path / 'result' / 'scored'}. With VAL.resume True it would have gone on."
        in done.out
    )
    assert not (tmp_path / "result" / "scored").exists()
    assert "Dropped" not in score().out


def test_resume_where_nothing_was_scored_starts_at_the_beginning(score):
    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    assert "Going on" not in done.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("VAL.flip", True), "VAL.flip was False and is True now"),
        (("VAL.checkpoint", "epoch_1.pth"), "the encoder's checkpoint has changed"),
        (("DATASET.imgSizes", 32), "DATASET.imgSizes was [32, 40] and is [32] now"),
        (("VAL.calibration", False), "VAL.calibration was True and is False now"),
        (("VAL.batch_size", 2), "VAL.batch_size was 1 and is 2 now"),
        (("a shorter list",), "DATASET.list_val has changed"),
        (("other names",), "DATASET.classes has changed"),
    ],
)
def test_results_of_other_settings_are_refused_and_kept(score, listed, tmp_path, words, says):
    with damaged(listed, 1):
        score()
    before = lines(tmp_path / "result")
    if words == ("a shorter list",):
        lengthened(listed, 3)
    elif words == ("other names",):
        classes = listed.folder / "classes.csv"
        classes.write_text(classes.read_text().replace("lawn", "meadow"))
    done = score("VAL.resume", True, *words[: 2 * (len(words) == 2)])
    assert done.code == 2
    assert done.err == (
        f"{tmp_path / 'result' / 'scored'} is of another evaluation: {says}. "
        "To go on with it, set that back; to score everything anew, set VAL.resume False.\n"
    )
    assert lines(tmp_path / "result") == before


@pytest.mark.parametrize(("room", "file"), [(10_000, "0001-0000.jsonl"), (40_000, "report.html")])
def test_a_disk_that_fills_up_ends_it_with_one_message_and_nothing_is_lost(score, tmp_path, room, file):
    assert score(folder=tmp_path / "whole").code == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # which a program meets as it meets a full disk
    try:
        done = score()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.code == 2
    assert re.fullmatch(
        rf"\S*{file} cannot be written: File too large\. The folder is \S+ Make room there, or choose "
        r"another folder\. What was scored so far is kept: VAL\.resume True goes on with it\.\n",
        done.err,
    )
    assert not (tmp_path / "result" / "report.html").exists()
    done = score("VAL.resume", True)
    assert re.search(rf"Going on: [1-9] of {IMAGES} images", done.out), done.err
    assert results(tmp_path / "result") == results(tmp_path / "whole")


def test_nothing_else_in_the_folder_is_removed(score, tmp_path):
    (tmp_path / "result" / "scored").mkdir(parents=True)
    (tmp_path / "result" / "scored" / "notes.txt").write_text("mine")
    assert score("VAL.resume", True).code == 0
    assert [path.name for path in (tmp_path / "result" / "scored").iterdir()] == ["notes.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="finds a process's children in /proc")
def test_a_killed_process_ends_the_run_and_one_process_goes_on_to_the_same_result(
    listed, trained, score, tmp_path, one_core
):
    lengthened(listed, 150)
    folder = tmp_path / "result"
    words = ("--gpus", "cpu", "--procs", 2, "--cfg", listed.config, "DIR", trained, "VAL.result", folder)
    command = [sys.executable, str(ROOT / "eval_multipro.py"), *map(str, (*words, *ON_REQUEST))]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(list(folder.glob("scored/*"))) < 2:  # until both have scored an image
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.01)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    ranks = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(ranks[1], signal.SIGKILL)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (1, "")
    assert err.startswith("Process 1 on cpu was ended by SIGKILL.")
    assert " What was scored so far is kept: VAL.resume True goes on with it.\n" in err
    unfinished = shutil.copytree(folder, tmp_path / "copy")

    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    scored = int(re.search(r"Going on: (\d+) of 150 images", done.out)[1])
    assert 2 <= scored < 150
    assert score(folder=tmp_path / "whole").code == 0
    assert results(folder) == results(tmp_path / "whole")
    # Killed once more, so that there are files of two starts.
    (last,) = unfinished.glob("scored/*-0001.jsonl")
    last.rename(last.with_name("0002-0001.jsonl"))
    done = score("VAL.resume", True, folder=unfinished)
    assert f"Going on: {scored} of 150 images" in done.out
    assert results(unfinished) == results(tmp_path / "whole")
