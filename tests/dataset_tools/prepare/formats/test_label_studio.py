"""Label Studio: polygons in percent, brush strokes in packed bits, and tasks with several annotations."""

import json

import numpy as np
import pytest

from mit_semseg.dataset_tools.prepare.formats.label_studio import _unpack
from mit_semseg.errors import UserError


def packed(pixels):
    """RGBA of a mask in runs, written bit by bit: independent of the reader."""
    values = np.repeat(np.where(pixels, 255, 0).ravel(), 4)
    bits = f"{len(values):032b}" + f"{8 - 1:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    start = 0
    for end in [*(np.flatnonzero(np.diff(values)) + 1), len(values)]:
        length = end - start
        if length <= 4:  # as different values, with a length of 3 bits
            bits += "0" + "00" + f"{length - 1:03b}" + "".join(f"{value:08b}" for value in values[start:end])
        else:  # as one value, with a length of 16 bits
            bits += "1" + "11" + f"{length - 1:016b}" + f"{values[start]:08b}"
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def result(kind, name, value, **more):
    key = kind if kind.endswith("labels") else "labels"
    return {
        "original_width": 6, "original_height": 4, "image_rotation": 0, "from_name": "label",
        "to_name": "image", "type": kind, "origin": "manual", "id": "x1y2",
        "value": {**value, key: [name]}, **more,
    }  # fmt: skip


def polygon(name, *points):
    points = [[100 * x / 6, 100 * y / 4] for x, y in points]
    return result("polygonlabels", name, {"points": points, "closed": True})


def box(name, x, y, width, height):
    value = {
        "x": 100 * x / 6,
        "y": 100 * y / 4,
        "width": 100 * width / 6,
        "height": 100 * height / 4,
        "rotation": 0,
    }
    return result("rectanglelabels", name, value)


ROAD = polygon("road", (0, 0), (6, 0), (6, 4), (0, 4))


@pytest.fixture
def write(tmp_path, make):
    """``write([annotations of a.jpg, ...])``: project.json as "JSON" exports it, and the images."""
    source = tmp_path / "s"

    def run(*tasks, uploaded=True):
        content = []
        for k, annotations in enumerate(tasks):
            name = f"{'abc'[k]}.jpg"
            make.image(source / "images" / name)
            url = f"/data/upload/1/0a1b2c3d-{name}" if uploaded else f"/data/local-files/?d=images%2F{name}"
            content.append(
                {"id": 5 + k, "annotations": annotations, "data": {"image": url}, "predictions": []}
            )
        (source / "project.json").write_text(json.dumps(content))
        return source

    return run


def made(*results, **more):
    return [{"id": 1, "was_cancelled": False, "ground_truth": False, "result": list(results), **more}]


def rows(label):
    return ["".join(map(str, row)) for row in label]


@pytest.mark.parametrize("uploaded", [True, False])
def test_polygons_boxes_and_brush_become_one_label(prepare, write, uploaded):
    ring = np.zeros((4, 6), bool)
    ring[:3, 1:4] = True
    ring[1, 2] = False
    brush = result("brushlabels", "car", {"format": "rle", "rle": packed(ring)})
    source = write(
        made(ROAD, brush, box("sky", 4, 2, 2, 1), result("keypointlabels", "car", {"x": 1, "y": 1})),
        made(ROAD),
        uploaded=uploaded,
    )
    out = prepare("label-studio", source)
    assert out.classes.names == ("car", "road", "sky")
    assert rows(out.label("a")) == ["211122", "212122", "211133", "222222"]
    assert "Without an area, and so omitted: 1 of the kind keypointlabels." in out.said


def test_a_turned_box_turns_around_its_corner(prepare, write):
    turned = box("car", 4, 1, 2, 1)
    turned["value"]["rotation"] = 90
    assert rows(prepare("label-studio", write(made(ROAD, turned))).label("a")) == [
        "222222", "222122", "222122", "222222",
    ]  # fmt: skip


def test_of_several_annotations_one_is_used(prepare, write):
    other = polygon("car", (0, 0), (6, 0), (6, 4), (0, 4))
    source = write(
        [*made(ROAD), *made(other)],
        [*made(ROAD, ground_truth=True), *made(other)],
        made(ROAD, was_cancelled=True),
    )
    out = prepare("label-studio", source)
    assert (out.label("a") == 1).all()
    assert (out.label("b") == 2).all()
    assert "2 tasks have several annotations; the one marked as ground truth is used" in out.said
    assert "1 tasks have no annotation, and are omitted." in out.said


def test_json_min_is_read(prepare, write):
    source = write(made(ROAD))
    shape = {**ROAD["value"], "original_width": 6, "original_height": 4}
    car = {**box("car", 0, 0, 1, 1)["value"], "original_width": 6, "original_height": 4}
    content = [{"image": "/data/upload/1/0a1b2c3d-a.jpg", "id": 5, "label": [shape, car], "annotation_id": 1}]
    (source / "project.json").write_text(json.dumps(content))
    assert rows(prepare("label-studio", source).label("a"))[0] == "122222"


def test_what_is_wrong_is_named(prepare, write):
    small = result("brushlabels", "car", {"format": "rle", "rle": packed(np.ones((3, 6), bool))})
    cut = result("brushlabels", "car", {"format": "rle", "rle": packed(np.ones((4, 6), bool))[:8]})
    source = write(made(small), made(cut), made({**ROAD, "image_rotation": 90}))
    with pytest.raises(UserError) as raised:
        prepare("label-studio", source)
    text = str(raised.value)
    assert "project.json: task 5, shape 1 has run lengths of 18 pixels, but its image has 6 x 4, 24, " in text
    assert "task 6, shape 1 has run lengths that cannot be read" in text
    assert "task 7, shape 1 was drawn on the image turned by 90 degrees, which is not read" in text
    (source / "project.json").write_text("[]")
    with pytest.raises(UserError, match=r"The export is empty: no image is listed in .*project.json"):
        prepare("label-studio", source)


def test_brush_strokes_agree_with_label_studio():
    brush = pytest.importorskip("label_studio_converter.brush")
    random = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        mask = (random.random((9, 13)) < share).astype(np.uint8) * 255
        runs = brush.encode_rle(np.repeat(mask.ravel(), 4))
        values = _unpack(bytes(runs))
        assert (values.reshape(9, 13, 4)[..., 3] == mask).all()
