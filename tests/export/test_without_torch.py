"""The program of docs/export.md, which segments a photo without PyTorch and without this package."""

import re
import subprocess

import numpy as np
import pytest
from bare_environment import bare_environment
from commands import ROOT
from PIL import Image

from mit_semseg import Segmenter
from mit_semseg.data.datasets import scaled
from mit_semseg.export.opened import open_exported

pytest.importorskip("onnxruntime")

MOST_LINES = 30


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """``run(*words)``: in an environment of numpy, Pillow, onnxruntime and what they need."""
    folder = tmp_path_factory.mktemp("bare") / "environment"
    python = bare_environment(folder, "numpy", "Pillow", "onnxruntime")

    def run(*words):
        words = map(str, (python, "-I", *words))  # isolated: neither PYTHONPATH nor the user's packages
        return subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=folder)

    return run


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The one Python program of the page that imports onnxruntime, as a file."""
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (text,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in code)
    assert len(text.splitlines()) <= MOST_LINES
    path = tmp_path_factory.mktemp("program") / "segment.py"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("module", ["torch", "mit_semseg", "onnx"])
def test_the_environment_of_the_program_has_no_torch(run, module):
    done = run("-c", f"import numpy, PIL, onnxruntime, {module}")
    assert done.returncode == 1
    assert f"ModuleNotFoundError: No module named '{module}'" in done.stderr


def test_the_program_has_the_labels_of_a_segmenter_in_its_colours(
    run, program, model, exported, tiny, tmp_path
):
    photo, out = tmp_path / "photo.png", tmp_path / "labels.png"
    # At a size of the network, because a Segmenter resizes scores to the photo, and the program labels.
    with Image.open(tiny.folder / "validation" / "1.jpg") as image:
        image.resize((56, 40)).save(photo)
    done = run(program, exported, photo, out)
    assert done.returncode == 0, done.stderr
    segmenter = Segmenter.load(model, device="cpu", sizes=40)
    labels = segmenter(photo).labels
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), segmenter.colors[labels])
    shares = dict(re.findall(r"(\w+): ([\d.]+)%", done.stdout))
    assert set(shares) == {segmenter.names[k] for k in np.unique(labels)}
    assert len(shares) > 1
    assert sum(map(float, shares.values())) == pytest.approx(100, abs=0.2)


def test_the_program_scales_a_photo_and_its_labels(run, program, exported, tiny, tmp_path):
    photo, out = tiny.folder / "validation" / "1.jpg", tmp_path / "labels.png"
    done = run(program, exported, photo, out)
    assert done.returncode == 0, done.stderr
    model = open_exported(exported)
    about = model.metadata
    with Image.open(photo) as image:
        size = image.size
        # The second of two short edges.
        (pixels,) = scaled(image, about.imgSizes[1:], about.imgMaxSize, about.padding_constant)
    (labels,) = model.run(["labels"], np.ascontiguousarray(pixels.numpy()))
    colors = np.array(about.colors, np.uint8)
    with Image.open(out) as image:
        assert image.size == size
        wanted = Image.fromarray(colors[labels[0]]).resize(size, Image.Resampling.NEAREST)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(wanted))
