"""The notebook: executed as a user does, and stored without what came out."""

import base64
import io
import os
import re

import nbformat
import numpy as np
import pytest
from commands import ROOT
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = ROOT / "notebooks" / "DemoSegmenter.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell(notebook, name):
    (found,) = (cell for cell in notebook.cells if cell.id == name)
    return found


def pictures(cell):
    """The pictures that a cell shows, as arrays."""
    data = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")) for png in data]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_it_is_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    for one in code(notebook):
        assert (one.execution_count, one.outputs) == (None, [])


def test_it_runs_from_any_folder_and_shows_what_it_says(notebook, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("MIT_SEMSEG_DEMO_CONFIG", str(trained / "config.yaml"))
    monkeypatch.delenv("MIT_SEMSEG_DEMO_IMAGE", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "elsewhere").mkdir()
    place = {"metadata": {"path": str(tmp_path / "elsewhere")}}
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources=place
    ).execute()  # raises if a cell does

    (photo,) = pictures(cell(notebook, "image"))
    assert photo.shape == (144, 180, 3)
    (shown,) = pictures(cell(notebook, "show"))
    np.testing.assert_array_equal(shown[:, :180], photo)
    colors = {(200, 60, 40), (60, 180, 60), (40, 80, 200)}
    present = {tuple(color) for color in shown[:, 180:].reshape(-1, 3).tolist()}
    assert present <= colors

    # Each class alone: its own colour and black, as often as it says.
    alone = pictures(cell(notebook, "largest"))
    said = re.findall(r"(brick|lawn|pool): ([\d.]+)%", printed(cell(notebook, "largest")))
    assert len(alone) == len(said) == len(present)
    for picture, (_, share) in zip(alone, said, strict=True):
        lit = picture[:, 180:].any(axis=-1)
        assert len(np.unique(picture[:, 180:][lit], axis=0)) == 1
        assert abs(100 * lit.mean() - float(share)) <= 0.051
    shares = [float(share) for _, share in said]
    assert shares == sorted(shares, reverse=True)

    assert len(pictures(cell(notebook, "segmenter"))) == 1  # by its own, as the last line of a cell
    assert re.findall(r"[\d.]+%  \w+", printed(cell(notebook, "shares")))
    assert re.match(r"Both ways agree on [\d.]+% of the pixels", printed(cell(notebook, "both")))
    assert pictures(cell(notebook, "both"))[0].shape[1] == 2 * 180
    assert pictures(cell(notebook, "alone"))[0].shape == photo.shape
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_image_of_ones_own(notebook, tiny, monkeypatch):
    monkeypatch.setenv("MIT_SEMSEG_DEMO_IMAGE", str(tiny.folder / "validation" / "1.jpg"))
    names = {}
    for name in ("parameters", "image"):
        exec(cell(notebook, name).source, names)
    assert names["image"].size == (36, 50)
    assert names["CONFIG"].startswith("ade20k-")
