"""``data prepare auto``: what it recognizes, what it says first, and when the user must choose."""

import json

import numpy as np
import pytest

from mit_semseg.dataset_tools.prepare.recognize import recognize
from mit_semseg.dataset_tools.prepare.release import PrepareOptions
from mit_semseg.errors import UserError

COCO = '{"images": [], "annotations": [{"segmentation": []}], "categories": []}'
PANOPTIC = '{"images": [], "annotations": [{"segments_info": []}], "categories": []}'
STUDIO = '[{"annotations": [{"result": [{"original_width": 6, "value": {"polygonlabels": ["a"]}}]}]}]'
VIA = '{"a.jpg1": {"filename": "a.jpg", "regions": [{"region_attributes": {}}]}}'
LABELME = '{"shapes": [], "imagePath": "a.jpg"}'
TEXTS = {
    "coco": {"annotations/instances.json": COCO},
    "coco-panoptic": {"panoptic.json": PANOPTIC, "panoptic/a.png": ""},
    "cvat": {"annotations.xml": "<?xml?>\n<annotations>", "images/a.jpg": ""},
    "label-studio": {"project.json": STUDIO},
    "via": {"via.json": VIA},
    "labelme": {"a.json": LABELME, "a.jpg": ""},
    "supervisely": {"meta.json": "{}", "ds/ann/a.jpg.json": "{}", "ds/img/a.jpg": ""},
    "yolo": {"labels/a.txt": "0 0 0 1 1 0 1", "images/a.jpg": "", "data.yaml": ""},
    "roboflow": {"train/_annotations.coco.json": COCO, "train/a.jpg": "", "README.roboflow.txt": ""},
    "voc": {"JPEGImages/a.jpg": "", "SegmentationClass/a.png": ""},
    "cityscapes": {"leftImg8bit/val/u/a_leftImg8bit.png": "", "gtFine/val/u/a_gtFine_labelIds.png": ""},
    "camvid": {"701/0001TP_006690.png": "", "labels/0001TP_006690_L.png": ""},
    "coco-stuff": {"val2017/000000000139.jpg": "", "stuff/val2017/000000000139.png": ""},
    "ade20k": {"images/validation/ADE_val_1.jpg": "", "annotations/validation/ADE_val_1.png": ""},
}
OTHERS = {
    "roboflow": {"data.yaml": "", "README.roboflow.txt": "", "train/labels/a.txt": ""},
    "cvat": {"labelmap.txt": "", "SegmentationClass/a.png": "", "JPEGImages/a.jpg": ""},
}


def written(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("name", "files"), [*TEXTS.items(), *OTHERS.items()])
def test_files_show_the_format(tmp_path, name, files):
    found, says = recognize(str(written(tmp_path, files)), PrepareOptions("auto"))
    assert found == name
    assert f"has the format {name} (" in says


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("folders", {"a.png": np.array([[0, 1, 2]])}),
        ("binary", {"a.png": np.array([[0, 255, 0]])}),
        ("rgb", {"a.png": np.array([[[0, 0, 0], [1, 2, 3], [0, 0, 0]]])}),
        ("class-masks", {"a_car.png": np.array([[0, 255, 0]]), "a_sky.png": np.array([[0, 0, 1]])}),
    ],
)
def test_label_images_show_the_format(tmp_path, make, name, labels):
    make.image(tmp_path / "images" / "a.jpg", (3, 1))
    for file, values in labels.items():
        make.label(tmp_path / "masks" / file, values)
    assert recognize(str(tmp_path), PrepareOptions("auto"))[0] == name


def test_what_was_found_is_said_before_it_is_used(prepare, tmp_path, make):
    source = tmp_path / "s"
    for name in "ab":
        make.image(source / "images" / f"{name}.jpg")
        make.label(source / "masks" / f"{name}.png", make.full([0, 1]))
    out = prepare("auto", source)
    first, second = out.said.splitlines()[:2]
    assert first.startswith(f"{source} has the format binary (images and masks of two values")
    assert first.endswith(
        "2 images with labels, such as images/a.jpg with masks/a.png, which is a mask of two values."
    )
    assert "1 training and 1 validation images, 2 classes" in second
    assert json.loads((out.folder / "prepare.json").read_text())["format"] == "binary"
    make.label(source / "masks" / "a.png", make.full([0, 100, 255]))
    with pytest.raises(UserError, match=r"--colors is for the format rgb, not for folders"):
        prepare("auto", source, "--colors", "x.csv", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_none_and_several_are_refused(tmp_path):
    written(tmp_path / "none", {"a.txt": "x", "b.jpg": ""})
    with pytest.raises(
        UserError, match=r"none has none of the formats .*\. It holds: 1 \.jpg, 1 \.txt\. If it"
    ):
        recognize(str(tmp_path / "none"), PrepareOptions("auto"))
    written(tmp_path / "two", {**TEXTS["coco"], **TEXTS["yolo"]})
    with pytest.raises(UserError) as raised:
        recognize(str(tmp_path / "two"), PrepareOptions("auto"))
    assert str(raised.value).splitlines()[1:] == [
        "  coco: annotations/instances.json", "  yolo: labels/a.txt",
    ]  # fmt: skip
