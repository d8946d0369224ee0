"""With VAL.resume, an interrupted evaluation resumes and writes the files of an uninterrupted one."""

import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from contextlib import contextmanager

import pytest
from commands import ROOT
from forked import Command

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
    """A file with other content until the context ends, with the time of the old one if it has its size."""
    before, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(content)
    if len(content) == len(before):
        os.utime(file, ns=times)
    try:
        yield
    finally:
        file.write_bytes(before)
        os.utime(file, ns=times)


def unreadable(data, k):
    """An image that can't be read until the context ends, and whose file looks unchanged."""
    file = data.folder / f"validation/{k}.jpg"
    return changed(file, bytes(file.stat().st_size))


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


def test_the_result_is_the_same_whatever_was_on_the_disk_when_it_was_killed(score, listed, tmp_path):
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
        assert (f"Resuming: {scored} of {IMAGES} images are scored" in done.out) == (scored > 0)
        assert results(folder) == expected


def test_an_image_is_scored_once_and_its_picture_is_there(score, listed, tmp_path):
    lengthened(listed, 3)
    with damaged(listed, 2):
        score("VAL.visualize", True)
    pictures = [tmp_path / "result" / f"validation/{k}.png" for k in range(3)]
    assert [picture.is_file() for picture in pictures] == [True, True, False]
    with unreadable(listed, 0), unreadable(listed, 1):  # which would be noticed
        done = score("VAL.resume", True, "VAL.visualize", True)
    assert done.code == 0, done.err
    assert "Resuming: 2 of 3 images are scored" in done.out
    assert all(picture.is_file() for picture in pictures)


def test_the_error_for_a_damaged_image_also_says_how_to_resume(score, listed, tmp_path):
    with damaged(listed, 1):
        done = score()
    assert done.code == 2
    file, records = listed.folder / "validation/1.jpg", listed.folder / "validation.odgt"
    assert done.err == (
        f"{file} is empty. See line 2 of {records}. "
        "The results so far are kept: set VAL.resume True to resume.\n"
    )
    assert [path.name for path in (tmp_path / "result").iterdir()] == ["scored"]
    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    assert f"[Eval Summary]: {IMAGES} images" in done.out


@pytest.mark.parametrize("name", ["0.jpg", "0.png"])
def test_an_image_that_changes_is_scored_again(score, listed, tmp_path, name):
    with damaged(listed, 2):
        score()
    file = listed.folder / "validation" / name
    shutil.copy(listed.folder / "training" / name, file)
    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    assert f"Resuming: 1 of {IMAGES} images are scored" in done.out
    assert "Scoring 1 images again, because they or their labels have changed since" in done.out
    assert score(folder=tmp_path / "whole").code == 0
    assert results(tmp_path / "result") == results(tmp_path / "whole")


def test_results_without_a_record_of_their_files_are_not_kept(score, listed, tmp_path):
    """As earlier releases wrote them."""
    with damaged(listed, 2):
        score()
    (file,) = (tmp_path / "result" / "scored").iterdir()
    settings, *batches = map(json.loads, file.read_text().splitlines())
    old = [settings, *({"batch": batch["batch"]} for batch in batches)]
    file.write_text("".join(json.dumps(line) + "\n" for line in old))
    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    assert "Resuming" not in done.out
    assert "Scoring 2 images again" in done.out


def test_a_line_with_other_values_is_ignored_and_its_image_scored_again(score, listed, tmp_path):
    assert score().code == 0
    expected = results(tmp_path / "result")
    with unreadable(listed, 2):
        assert score(folder=tmp_path / "stopped").code == 2
    for number, change in enumerate(({"batch": 3}, {"batch": []}, {"batch": [{"index": 99}]}, {"other": 1})):
        folder = shutil.copytree(tmp_path / "stopped", tmp_path / f"again_{number}")
        (journal,) = (folder / "scored").iterdir()
        first, line, *rest = journal.read_text().splitlines()
        line = json.dumps(change if "other" in change else {**json.loads(line), **change})
        journal.write_text("\n".join([first, line, *rest]) + "\n")
        resumed = score("VAL.resume", True, folder=folder)
        assert resumed.code == 0, (change, resumed.err)
        assert results(folder)[1:3] == expected[1:3], change


def test_without_resume_the_results_so_far_are_deleted_with_a_message(score, listed, tmp_path):
    with damaged(listed, 2):
        score()
    done = score()
    assert done.code == 0, done.err
    assert (
        f"Deleted the results of an unfinished evaluation in {tmp_path / 'result' / 'scored'}. "
        "VAL.resume True would resume it." in done.out
    )
    assert not (tmp_path / "result" / "scored").exists()
    assert "Deleted" not in score().out


def test_resuming_without_results_starts_at_the_beginning(score):
    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    assert "Resuming" not in done.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("INFERENCE.flip", True), "INFERENCE.flip was False and is now True"),
        (("VAL.checkpoint", "epoch_1.pth"), "the encoder's checkpoint has changed"),
        (("DATASET.imgSizes", 32), "DATASET.imgSizes was [32, 40] and is now [32]"),
        (("VAL.calibration", False), "VAL.calibration was True and is now False"),
        (("VAL.batch_size", 2), "VAL.batch_size was 1 and is now 2"),
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
        f"{tmp_path / 'result' / 'scored'} belongs to another evaluation: {says}. "
        "Restore that to resume, or set VAL.resume False to score all images again.\n"
    )
    assert lines(tmp_path / "result") == before


def test_an_evaluation_that_release_2_0_began_is_resumed(score, listed, tmp_path):
    """Its settings have keys under their former names, and lack newer ones."""
    with damaged(listed, 1):
        score()
    for file in (tmp_path / "result" / "scored").iterdir():
        settings, *batches = file.read_text().splitlines(keepends=True)
        assert '"INFERENCE.' in settings
        settings = settings.replace('"VAL.threshold": "none", ', "").replace(
            '"INFERENCE.threshold": 0.5, ', ""
        )
        assert "threshold" not in settings
        file.write_text("".join([settings.replace('"INFERENCE.', '"VAL.'), *batches]))
    done = score("VAL.resume", True, "INFERENCE.flip", True)
    assert done.code == 2
    assert "INFERENCE.flip was False and is now True" in done.err
    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    assert f"of {IMAGES} images are scored" in done.out


@pytest.mark.parametrize(("room", "file"), [(10_000, "0001-0000.jsonl"), (40_000, "report.html")])
def test_a_full_disk_ends_it_with_one_message_and_no_result_is_lost(score, tmp_path, room, file):
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
        r"another folder\. The results so far are kept: set VAL\.resume True to resume\.\n",
        done.err,
    )
    assert not (tmp_path / "result" / "report.html").exists()
    done = score("VAL.resume", True)
    assert re.search(rf"Resuming: [1-9] of {IMAGES} images", done.out), done.err
    assert results(tmp_path / "result") == results(tmp_path / "whole")


def test_other_files_in_the_folder_are_kept(score, tmp_path):
    (tmp_path / "result" / "scored").mkdir(parents=True)
    (tmp_path / "result" / "scored" / "notes.txt").write_text("mine")
    assert score("VAL.resume", True).code == 0
    assert [path.name for path in (tmp_path / "result" / "scored").iterdir()] == ["notes.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="finds a process's children in /proc")
def test_a_killed_process_ends_the_run_and_one_process_resumes_to_the_same_result(
    listed, trained, score, tmp_path
):
    lengthened(listed, 90)
    folder = tmp_path / "result"
    words = ("--gpus", "cpu", "--procs", 2, "--cfg", listed.config, "DIR", trained, "VAL.result", folder)
    with Command(ROOT / "eval_multipro.py", *words, *ON_REQUEST, forking=True) as run:
        while len(list(folder.glob("scored/*"))) < 2:  # until both have scored an image
            assert run.is_running(), run.finish()
            time.sleep(0.01)
        os.kill(run.ranks()[1], signal.SIGKILL)
        killed = run.finish()
    assert killed.code == 1
    assert "Mean IoU" not in killed.out
    assert killed.err.startswith("Process 1 on cpu was killed by SIGKILL.")
    assert " The results so far are kept: set VAL.resume True to resume.\n" in killed.err
    unfinished = shutil.copytree(folder, tmp_path / "copy")

    done = score("VAL.resume", True)
    assert done.code == 0, done.err
    scored = int(re.search(r"Resuming: (\d+) of 90 images", done.out)[1])
    assert 2 <= scored < 90
    assert score(folder=tmp_path / "whole").code == 0
    assert results(folder) == results(tmp_path / "whole")
    # As if it had been killed again, with files of two starts.
    (last,) = unfinished.glob("scored/*-0001.jsonl")
    last.rename(last.with_name("0002-0001.jsonl"))
    done = score("VAL.resume", True, folder=unfinished)
    assert f"Resuming: {scored} of 90 images" in done.out
    assert results(unfinished) == results(tmp_path / "whole")
