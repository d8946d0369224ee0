"""Pairs whose files vanish or kill the process that reads them."""

import os

import numpy as np
import pytest

from mit_semseg.dataset_tools.prepare.build import _convert_all
from mit_semseg.dataset_tools.prepare.classes import Recoding, table_of
from mit_semseg.dataset_tools.prepare.convert import Conversion, convert
from mit_semseg.dataset_tools.prepare.labels import IndexLabels
from mit_semseg.dataset_tools.prepare.release import SourcePair
from mit_semseg.dataset_tools.prepare.staging import Staging
from mit_semseg.errors import UserError


class Vanishing(IndexLabels):
    """The image is deleted while its label is read."""

    def values(self, label, image):
        image.unlink()
        return super().values(label, image)


class Killing(IndexLabels):
    """Reading c.png kills the process."""

    def values(self, label, image):
        if label.name == "c.png":
            os._exit(9)
        return super().values(label, image)


@pytest.fixture
def source(tmp_path, make):
    for name in "abcd":
        make.image(tmp_path / "s" / "images" / f"{name}.jpg")
        make.label(tmp_path / "s" / "labels" / f"{name}.png", make.full([1, 2]))
    return tmp_path / "s"


def staged(folder):
    return Staging(folder / "out")


def pair(name):
    return SourcePair(name, f"labels/{name}.png", f"images/{name}.jpg", "training")


def test_an_image_that_vanishes_before_it_is_copied_is_a_problem(source, tmp_path):
    conversion = Conversion(source, Vanishing(), Recoding(table_of(None)), staged(tmp_path), link=False)
    result = convert(conversion, pair("a"), lambda mark: None)
    assert result.text == f"{source}/images/a.jpg does not exist."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_label_that_kills_its_process_is_named_and_the_others_are_converted(source, tmp_path, workers):
    conversion = Conversion(source, Killing(), Recoding(table_of(None)), staged(tmp_path), link=True)
    outcome = _convert_all(conversion, [pair(name) for name in "abcd"], workers)
    assert [failure.text for failure in outcome.failures] == [
        f"The process that read {source}/labels/c.png ended (exited with code 9)."
    ]
    assert [record["fpath_img"][-5:] for record in outcome.records["training"]] == ["a.jpg", "b.jpg", "d.jpg"]
    assert outcome.values.tolist() == np.bincount([1, 2] * 36, minlength=2**16).tolist()


def test_a_disk_that_refuses_ends_the_run(source, tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    conversion = Conversion(source, IndexLabels(), Recoding(table_of(None)), staged(tmp_path), link=True)
    with pytest.raises(UserError, match="cannot be written"):
        _convert_all(conversion, [pair("a")], 1)
