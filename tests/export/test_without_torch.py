"""The program of docs/export.md, which segments a photo without PyTorch and without this package."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

from mit_semseg.data.datasets import scaled
from mit_semseg.export.opened import open_exported

MOST_LINES = 30
WITHOUT_TORCH = Path(__file__).with_name("without_torch.py")


def run(*words):
    return subprocess.run(
        [sys.executable, WITHOUT_TORCH, *map(str, words)], capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The one Python program of the page that imports onnxruntime, as a file."""
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (text,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in code)
    assert len(text.splitlines()) <= MOST_LINES
    path = tmp_path_factory.mktemp("program") / "segment.py"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("module", ["torch", "mit_semseg"])
def test_the_environment_of_the_program_has_no_torch(module, tmp_path):
    (tmp_path / "program.py").write_text(f"import {module}")
    done = run(tmp_path / "program.py")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_the_program_has_the_labels_of_the_file_in_its_colours(program, exported, tiny, tmp_path):
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
    shares = dict(re.findall(r"(\w+): ([\d.]+)%", done.stdout))
    assert set(shares) == {about.names[k] for k in np.unique(labels)}
    assert sum(map(float, shares.values())) == pytest.approx(100, abs=0.2)
