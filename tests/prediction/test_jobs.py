"""The jobs of a call of test.py: their files, and the memory that a long list needs."""

import os
import pickle
import tracemalloc
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from mit_semseg.inference.pictures import save_labels
from mit_semseg.prediction.inputs import find_inputs
from mit_semseg.prediction.jobs import find_jobs
from mit_semseg.prediction.manifest import Manifest

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


def test_the_state_is_that_of_the_moment_when_the_job_is_reached(photos, tmp_path):
    jobs = jobs_of(photos, tmp_path / "out")
    before = jobs.reached(0).state
    (photos / "day0" / "photo_00000000.jpg").unlink()
    assert before is not None
    assert jobs.reached(0).state is None
