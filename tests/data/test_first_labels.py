"""A look at the first labels of a list, before a training or an evaluation begins."""

import io
import json

import numpy as np
import pytest
import torch
from image_files import saved
from PIL import Image

from mit_semseg.data.datasets import ValDataset
from mit_semseg.data.first_labels import check_first_labels
from mit_semseg.errors import UserError
from mit_semseg.runtime.distributed import ProcessInfo


class Options:
    imgSizes = (32,)
    imgMaxSize = 64
    padding_constant = 8
    num_class = 2
    label_offset = 1
    ignore_label = -1


@pytest.fixture
def look(tmp_path, caplog):
    """``look([[0, 1], [2]], ignore_label=255)``: labels with these values -> what was logged."""

    def run(labels, exif=None, **options):
        lines = []
        for k, values in enumerate(labels):
            saved(tmp_path / f"{k}.jpg", Image.new("RGB", (6, 4)), **({"exif": exif} if exif else {}))
            if isinstance(values, bytes):
                (tmp_path / f"{k}.png").write_bytes(values)
            else:
                saved(tmp_path / f"{k}.png", np.resize(np.array(values, np.uint8), (4, 6)))
            lines.append(json.dumps({"fpath_img": f"{k}.jpg", "fpath_segm": f"{k}.png"}) + "\n")
        (tmp_path / "x.odgt").write_text("".join(lines))
        opt = Options()
        vars(opt).update(options)
        dataset = ValDataset(tmp_path, str(tmp_path / "x.odgt"), opt)
        caplog.clear()
        check_first_labels(dataset, range(len(labels)), ProcessInfo(0, 1, torch.device("cpu")))
        return [record.getMessage() for record in caplog.records]

    return run


def test_labels_of_two_classes_say_nothing_and_are_not_all_read(look, monkeypatch):
    seen = []
    read = ValDataset.label_values
    monkeypatch.setattr(ValDataset, "label_values", lambda self, row: seen.append(row) or read(self, row))
    assert look([[0, 1], [1], [2], [1], [1, 2]]) == []
    assert len(seen) == 3


def test_labels_whose_values_are_mixed_are_refused(look):
    levels = np.clip(np.add.outer(np.arange(64) // 2, np.arange(96)) // 32, 0, 3).astype(np.uint8) * 80
    smooth = Image.fromarray(levels).resize((48, 32), Image.Resampling.NEAREST).resize((96, 64))
    buffer = io.BytesIO()
    smooth.save(buffer, "PNG")
    with pytest.raises(UserError, match="mostly lie between those of their neighbours"):
        look([[1, 2], buffer.getvalue()], num_class=250, label_offset=2)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([[0], [0]], {}, r"labels of .*x.odgt hold only 0, .*If 0 is a class, set DATASET.label_offset 0\."),
        ([[0, 255], [0]], {}, r'hold only 0 and 255, so they are masks .*--map "0:1, 255:2"'),
        ([[0, 255]], {"ignore_label": 255}, r'hold only 0 besides 255, .*--map "0:1, 255:2"'),
        ([[255]], {"ignore_label": 255}, r"hold no value besides 255.* drop these lines"),
        ([[0, 127, 255]], {}, "scaled to be visible"),
    ],
)
def test_labels_that_teach_nothing_are_refused(look, labels, options, message):
    with pytest.raises(UserError, match=message):
        look(labels, **options)


def test_one_class_is_a_warning_with_the_offset_if_it_fits(look):
    (said,) = look([[0, 1], [1]])
    assert said.endswith(
        "x.odgt hold one class only, with the value 1, and 0 stands for unlabelled. If 0 is a class, too "
        "(background), set DATASET.label_offset 0."
    )
    assert look([[0, 1], [1]], label_offset=0) == []
    (said,) = look([[0, 1, 2], [1]], num_class=3)
    assert said.endswith(
        "hold 0 to 2, but the classes go from 1 to 3, and 0 stands for unlabelled. If 0 is the first class, "
        "set DATASET.label_offset 0."
    )
    (said,) = look([[1], [1]])
    assert said.endswith("with the value 1. Training can learn only this class.")


def test_files_that_cannot_be_used_are_passed_over(look):
    assert look([b"", b"x", [1, 2]]) == []
    assert look([b"", b"x"]) == []


def test_an_orientation_that_the_size_does_not_settle_is_a_warning(look):
    exif = Image.Exif()
    exif[0x0112] = 3
    (said,) = look([[1, 2], [1, 2]], exif=exif)
    assert said.startswith("2 of 2 images checked in ")
    assert "--upright` turns them" in said
    exif[0x0112] = 1
    assert look([[1, 2]], exif=exif) == []
