"""Roboflow's three layouts."""

import json

import numpy as np
import pytest
from PIL import Image

from mit_semseg.errors import UserError

NAME = "street_jpg.rf.0123456789abcdef0123456789abcdef"


def test_coco_in_a_folder_for_each_split(prepare, make, tmp_path):
    for split in ("train", "valid", "test"):
        folder = tmp_path / "s" / split
        make.image(folder / f"{NAME}{split}.jpg")
        content = {
            "info": {"year": "2026"},
            "categories": [
                {"id": 0, "name": "streets", "supercategory": "none"},
                {"id": 1, "name": "car", "supercategory": "streets"},
                {"id": 2, "name": "road", "supercategory": "streets"},
            ],
            "images": [{"id": 0, "file_name": f"{NAME}{split}.jpg", "height": 4, "width": 6}],
            "annotations": [
                {"id": 0, "image_id": 0, "category_id": 2, "iscrowd": 0,
                 "segmentation": [[0, 0, 6, 0, 6, 4, 0, 4]]}
            ],
        }  # fmt: skip
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
    out = prepare("roboflow", tmp_path / "s")
    assert out.classes.names == ("car", "road")
    assert (out.names("training"), out.names("validation")) == ([f"{NAME}train"], [f"{NAME}valid"])
    assert (out.label(f"{NAME}train") == 2).all()
    assert "1 image of the test part is omitted." in out.said


def test_yolo_with_data_yaml(prepare, make, tmp_path):
    for split in ("train", "valid"):
        make.image(tmp_path / "s" / split / "images" / f"{NAME}.jpg")
        labels = tmp_path / "s" / split / "labels"
        labels.mkdir()
        (labels / f"{NAME}.txt").write_text("1 0 0 1 0 1 1 0 1")
    (tmp_path / "s" / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: ['car', 'road']\n")
    (tmp_path / "s" / "README.roboflow.txt").write_text("street")
    out = prepare("roboflow", tmp_path / "s")
    assert (len(out.names("training")), len(out.names("validation"))) == (1, 1)
    assert out.classes.names == ("car", "road")


def test_semantic_masks_with_a_table_of_values(prepare, make, tmp_path):
    for split in ("train", "valid"):
        make.image(tmp_path / "s" / split / f"{NAME}.jpg")
        make.label(tmp_path / "s" / split / f"{NAME}_mask.png", make.full([0, 2]))
        table = "Pixel Value, Class\n0, background\n1, car\n2, road\n"
        (tmp_path / "s" / split / "_classes.csv").write_text(table)
    out = prepare("roboflow", tmp_path / "s")
    assert out.classes.names == ("background", "car", "road")
    with Image.open(out.folder / out.records("training")[0]["fpath_segm"]) as label:
        assert np.unique(label).tolist() == [1, 3]
    (tmp_path / "s" / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, tree\n")
    with pytest.raises(UserError, match=r"names the classes differently in train/_classes.csv, valid/"):
        prepare("roboflow", tmp_path / "s")


def test_other_folders_are_refused(prepare, make, tmp_path):
    make.image(tmp_path / "s" / "a.jpg")
    with pytest.raises(UserError, match=r"holds no _annotations.coco.json, _classes.csv or data.yaml"):
        prepare("roboflow", tmp_path / "s")
