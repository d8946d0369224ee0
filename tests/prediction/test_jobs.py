"""The jobs of a call of test.py: their files, and the memory that a long list needs."""

import os
import pickle
import tracemalloc
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mit_semseg.inference.pictures import save_labels
from mit_semseg.prediction.find_jobs import find_jobs
from mit_semseg.prediction.inputs import find_inputs
from mit_semseg.prediction.manifest import Manifest
from mit_semseg.prediction.tools import coco
from mit_semseg.runtime.files import state_of

MANY = 5000


@pytest.fixture
def photos(tmp_path):
    """A folder with as many photos, in two subfolders; they are links to one file."""
    image = tmp_path / "image.jpg"
    Image.new("RGB", (4, 3)).save(image)
    for k in range(MANY):
        path = tmp_path / "photos" / f"day{k % 2}" / f"photo_{k:08}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(image, path)
    return tmp_path / "photos"


def jobs_of(photos, out, outputs=("overlay", "labels"), resume=False, how=None):
    return find_jobs(find_inputs([str(photos)], None).inputs, outputs, out, how or {}, resume=resume)


def test_a_job_of_many_needs_few_bytes(photos, tmp_path):
    """500 MB for a million inputs are 500 bytes for each, also at the peak."""
    jobs_of(photos / "day0", tmp_path / "out")  # what is made once does not count
    tracemalloc.start()
    jobs = jobs_of(photos, tmp_path / "out")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    path = len(jobs.inputs.paths[0])
    assert kept / MANY < path + 60
    assert peak / MANY < 2 * path + 300
    assert len(pickle.dumps(jobs)) / MANY < path + 40


def test_the_names_of_files_follow_from_the_inputs(photos, tmp_path):
    jobs = jobs_of(photos, tmp_path / "out")
    assert len(jobs.others) == len(jobs.earlier) == 0
    assert jobs[3].targets == {
        output: tmp_path / "out" / "day0" / f"photo_00000006_{output}.png" for output in ("overlay", "labels")
    }
    assert pickle.loads(pickle.dumps(jobs))[3] == jobs[3]


def test_processes_share_the_pending_jobs(photos, tmp_path):
    jobs = jobs_of(photos, tmp_path / "out")
    jobs.done[:10] = True
    jobs.problems[11] = "cannot be read"
    shares = [jobs.share("image", rank, 3) for rank in range(3)]
    assert sorted(chain(*shares)) == [10, *range(12, MANY)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_resumed_run_keeps_names_that_would_be_others_today(tmp_path):
    """``a.jpg`` was alone when its labels were written. Beside ``a.png``, it would keep its extension."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.new("RGB", (4, 3)).save(photos / "a.jpg")
    job = jobs_of(photos, out, ["labels"]).reached(0)
    save_labels(np.zeros((3, 4), np.uint8), 3, job.targets["labels"])
    Manifest(out).add(job.input, job.state, {}, job.targets)
    Image.new("RGB", (4, 3)).save(photos / "a.png")
    jobs = jobs_of(photos, out, ["labels"], resume=True)
    assert jobs.done.tolist() == [True, False]
    assert [jobs[k].targets["labels"].name for k in (0, 1)] == ["a_labels.png", "a.png_labels.png"]
    fresh = jobs_of(photos, out, ["labels"])
    assert [fresh[k].targets["labels"].name for k in (0, 1)] == ["a.jpg_labels.png", "a.png_labels.png"]


@pytest.mark.parametrize("folder", [".", "out"])
def test_a_resumed_run_leaves_the_outputs_of_other_inputs_alone(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    out = Path(folder)
    for name in ("one/a.jpg", "two/a.jpg"):
        Path(name).parent.mkdir()
        Image.new("RGB", (4, 3)).save(name)
    job = jobs_of(Path("one"), out, ["labels"]).reached(0)
    job.targets["labels"].parent.mkdir(exist_ok=True)
    save_labels(np.zeros((3, 4), np.uint8), 3, job.targets["labels"])
    Manifest(out).add(job.input, job.state, {}, job.targets)
    other = jobs_of(Path("two"), out, ["labels"], resume=True)
    assert other[0].targets["labels"] == out / "a_segmented_labels.png"


@pytest.fixture
def same_names(tmp_path, monkeypatch):
    """Images with one name in two folders, and one whose path below its folder is that of the second."""
    monkeypatch.chdir(tmp_path)
    for name in ("one/a.png", "two/a.png", "all/two/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 3)).save(name)
    return tmp_path


def test_no_two_inputs_share_a_name_in_files_of_labelling_tools(same_names):
    """Those of ``all`` and of ``two`` would be ``two/a.png``: each had the masks of the other."""
    found = find_inputs(["one", "two", "all"], None).inputs
    jobs = find_jobs(found, ["coco"], same_names / "out", {}, resume=False)
    assert [job.name for job in jobs] == ["one/a.png", "two/a.png", "all/two/a.png"]
    alone = find_jobs(
        find_inputs(["one", "all"], None).inputs, ["coco"], same_names / "out", {}, resume=False
    )
    assert [job.name for job in alone] == ["a.png", "two/a.png"]


@pytest.mark.parametrize("first", [["one"], ["one", "two"]])
def test_a_resumed_run_does_not_take_the_part_of_another_input(first, same_names):
    """The file of all images holds the latest ``a.png``, which is that of the folder ``two``."""
    out = same_names / "out"

    def jobs_of_folders(folders):
        return find_jobs(find_inputs(folders, None).inputs, ["coco"], out, {}, resume=True)

    for folders in (first, ["two"]):
        lines = []
        for job in jobs_of_folders(folders):
            Manifest(out).add(job.input, state_of(job.input.path), {}, {}, cards={"coco": job.key("coco")})
            lines.append(f'{{"image": {{"file_name": "{job.name}"}}}}\n')
        (out / coco.NAME).write_text("".join(lines))
    assert jobs_of_folders(["two"]).done.tolist() == [True]
    assert jobs_of_folders(["one"]).done.tolist() == [False]


def test_the_state_is_that_of_the_moment_when_the_job_is_reached(photos, tmp_path):
    jobs = jobs_of(photos, tmp_path / "out")
    before = jobs.reached(0).state
    (photos / "day0" / "photo_00000000.jpg").unlink()
    assert before is not None
    assert jobs.reached(0).state is None
