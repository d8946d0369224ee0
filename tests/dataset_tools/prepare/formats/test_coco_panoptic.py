"""COCO panoptic: ids in colours."""

import json

import numpy as np
import pytest

from mit_semseg.errors import UserError

THING, CROWD, STUFF = 7, 300, 3226756  # 3226756 = 132 + 256 * 60 + 65536 * 49, as large as COCO's ids


@pytest.fixture
def source(tmp_path, make):
    """The layout of COCO: the JSON file, and the PNGs in a folder of its name."""
    ids = np.array([[THING, THING, CROWD, CROWD, 0, STUFF]] * 4)
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
    make.image(tmp_path / "s" / "train2017" / "01.jpg")
    make.colored(tmp_path / "s" / "annotations" / "panoptic_train2017" / "01.png", colors)
    segments = [
        {"id": THING, "category_id": 1, "iscrowd": 0, "area": 8, "bbox": [0, 0, 2, 4]},
        {"id": CROWD, "category_id": 1, "iscrowd": 1},
        {"id": STUFF, "category_id": 92, "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 1, "file_name": "01.jpg", "width": 6, "height": 4}],
        "annotations": [{"image_id": 1, "file_name": "01.png", "segments_info": segments}],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60]},
            {"id": 92, "name": "banner", "isthing": 0, "color": [255, 255, 128]},
        ],
    }
    (tmp_path / "s" / "annotations" / "panoptic_train2017.json").write_text(json.dumps(content))
    return tmp_path / "s"


def change(source, edit):
    path = source / "annotations" / "panoptic_train2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_segments_become_classes_and_crowds_are_ignored(prepare, source):
    out = prepare("coco-panoptic", source)
    assert out.classes.names == ("person", "banner")
    assert out.classes.colors.tolist() == [[220, 20, 60], [255, 255, 128]]
    assert (out.label("01") == [1, 1, 0, 0, 0, 2]).all()
    assert "Not used" not in out.said
    assert "not annotated" not in out.said


def test_what_is_wrong_is_named(prepare, source, make):
    change(source, lambda content: content["annotations"][0]["segments_info"][0].update(category_id=5))
    with pytest.raises(UserError, match=r"2017.json: 01.png has the category_id 5, which is not a category"):
        prepare("coco-panoptic", source)
    change(source, lambda content: content["annotations"][0]["segments_info"][0].update(category_id=1))
    make.colored(source / "annotations" / "panoptic_train2017" / "01.png", np.zeros((3, 3, 3)))
    with pytest.raises(UserError, match=r"01.png has 3 x 3 pixels, but its image has 6 x 4"):
        prepare("coco-panoptic", source)
    (source / "annotations" / "panoptic_train2017" / "01.png").unlink()
    with pytest.raises(UserError, match=r"panoptic_train2017.json: 01.png is not in "):
        prepare("coco-panoptic", source)
    with pytest.raises(UserError, match=r"holds panoptic segments, which the format coco-panoptic reads"):
        prepare("coco", source)
