"""`mit-semseg demo`: the first picture, in an empty folder."""

import pytest
from PIL import Image


def test_it_segments_the_photo_of_the_package(call, tmp_path, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    outcome = call("demo")
    assert (outcome.code, outcome.err) == (0, "")
    first = outcome.out.split("\n", 1)[0].split()
    assert first[1] == "building"
    assert "mit-semseg-demo/street_overlay.png, after " in outcome.out
    assert "mit-semseg test --imgs PHOTO.jpg" in outcome.out
    assert {path.name for path in tmp_path.rglob("*.*")} == {
        *("street.jpg", "street_overlay.png", "street_side_by_side.png")
    }
    with Image.open(tmp_path / "mit-semseg-demo" / "street_overlay.png") as picture:
        assert picture.width == 600


def test_a_folder_that_cannot_be_written_into_is_refused_at_once(call, tmp_path):
    (tmp_path / "file").touch()
    outcome = call("demo", "--result", tmp_path / "file" / "x")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "Set --result to another folder" in outcome.err
