"""The two files of an OpenVINO model belong together."""

import re

import numpy as np
import pytest
from example_metadata import example_metadata

from mit_semseg.errors import UserError
from mit_semseg.export import open_exported, openvino_files, read_metadata

openvino = pytest.importorskip("openvino")


def save(path, value):
    """A model that adds ``value`` to each pixel of an image."""
    ops = openvino.opset13
    image = ops.parameter([-1, 3, -1, -1], np.uint8, name="image")
    addend = ops.constant(np.full((1, 3, 1, 1), value, np.uint8))
    total = ops.add(image, addend)
    total.output(0).get_tensor().set_names({"labels"})
    openvino_files.save(openvino.Model([total], [image]), example_metadata(outputs=("labels",)), path)


def test_a_model_has_its_metadata_and_its_weights(tmp_path):
    save(tmp_path / "a.xml", 5)
    assert read_metadata(tmp_path / "a.xml") == example_metadata(outputs=("labels",))
    (labels,) = open_exported(tmp_path / "a.xml").run(["labels"], np.full((1, 3, 2, 2), 7, np.uint8))
    assert (labels == 12).all()


def test_weights_of_another_export_are_refused(tmp_path):
    """As after an export over older files that was killed between the two."""
    for name, value in (("a", 5), ("b", 6)):
        save(tmp_path / f"{name}.xml", value)
    (tmp_path / "b.bin").replace(tmp_path / "a.bin")
    with pytest.raises(UserError, match=r"a\.bin does not belong to .*a\.xml: an export was interrupted"):
        open_exported(tmp_path / "a.xml")


def test_a_model_of_an_earlier_version_is_opened(tmp_path):
    save(tmp_path / "a.xml", 5)
    text = (tmp_path / "a.xml").read_text(encoding="utf-8")
    assert "mit_semseg_weights" in text
    (tmp_path / "a.xml").write_text(re.sub(r"<mit_semseg_weights [^>]*/>", "", text), encoding="utf-8")
    assert open_exported(tmp_path / "a.xml").metadata.padding_constant == 8
