"""Supervisely: polygons with holes, bitmaps in a box, and the classes of meta.json."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from mit_semseg.errors import UserError


def bitmap(pixels, origin, mode="RGBA"):
    """As the tool packs it: a PNG whose opaque pixels belong to the object."""
    if mode == "RGBA":
        image = Image.fromarray(np.repeat(pixels[..., None], 4, 2).astype(np.uint8) * 255)
    else:
        image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return {"data": data, "origin": list(origin)}


def thing(name, kind, **more):
    return {"id": 1, "classTitle": name, "geometryType": kind, "tags": [], **more}


def polygon(name, exterior, *interior):
    return thing(name, "polygon", points={"exterior": exterior, "interior": list(interior)})


ROAD = polygon("road", [[-1, -1], [6, -1], [6, 4], [-1, 4]])


@pytest.fixture
def write(tmp_path, make):
    """``write({"train/a.jpg": objects})``: a project with a dataset for each folder."""
    source = tmp_path / "s"

    def run(objects, suffix=".jpg.json"):
        for path, things in objects.items():
            folder, name = path.split("/")
            make.image(source / folder / "img" / name)
            content = {"description": "", "tags": [], "size": {"height": 4, "width": 6}, "objects": things}
            (source / folder / "ann").mkdir(exist_ok=True)
            (source / folder / "ann" / name.replace(".jpg", suffix)).write_text(json.dumps(content))
        classes = [
            {"title": "road", "shape": "polygon", "color": "#804080"},
            {"title": "car", "shape": "bitmap", "color": "#00008E"},
        ]
        (source / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
        return source

    return run


def rows(label):
    return ["".join(map(str, row)) for row in label]


@pytest.mark.parametrize("mode", ["RGBA", "1"])
def test_holes_stay_holes_and_bitmaps_have_a_place(prepare, write, mode):
    # The corners are centres of pixels: from the centre of (0, 0) to that of (5, 3), without 2 to 4.
    outer = polygon("road", [[0, 0], [5, 0], [5, 3], [0, 3]], [[1, 1], [4, 1], [4, 3], [1, 3]])
    pixels = np.array([[1, 0, 1], [0, 1, 0]], bool)
    car = thing("car", "bitmap", bitmap=bitmap(pixels, (3, 2), mode))
    line = thing("road", "line", points={"exterior": [[0, 0], [1, 1]], "interior": []})
    out = prepare("supervisely", write({"train/a.jpg": [outer, car, line], "val/b.jpg": [ROAD]}))
    assert out.classes.names == ("road", "car")
    assert out.classes.colors.tolist() == [[0x80, 0x40, 0x80], [0, 0, 0x8E]]
    label = rows(out.label("a"))
    assert [row[:3] for row in label[:2]] == ["111", "100"]
    assert (label[2], label[3][3:]) == ("100212", "020")
    assert (out.names("training"), out.names("validation")) == (["a"], ["b"])
    assert "Without an area, and so omitted: 1 of the kind line." in out.said


def test_a_rectangle_holds_both_corners_and_old_file_names_are_read(prepare, write):
    box = thing("car", "rectangle", points={"exterior": [[1, 1], [3, 2]], "interior": []})
    out = prepare("supervisely", write({"ds/a.jpg": [ROAD, box]}, suffix=".json"))
    assert rows(out.label("a")) == ["111111", "122211", "122211", "111111"]


def test_what_is_wrong_is_named(prepare, write):
    source = write(
        {
            "ds/a.jpg": [thing("car", "bitmap", bitmap={"data": "AAAA", "origin": [0, 0]})],
            "ds/b.jpg": [polygon("road", [[0, 0], [1, None], [2, 2]])],
            "ds/c.jpg": [ROAD],
            "ds/d.jpg": [ROAD],
        }
    )
    (source / "ds" / "ann" / "c.jpg.json").write_text("{}")
    (source / "ds" / "img" / "d.jpg").unlink()
    with pytest.raises(UserError) as raised:
        prepare("supervisely", source)
    text = str(raised.value)
    assert "a.jpg.json: object 1 has a bitmap that cannot be read (" in text
    assert "b.jpg.json: object 1 has a coordinate that is not finite" in text
    assert 'c.jpg.json has no "size", so it is not a file of Supervisely.' in text
    assert "d.jpg.json lists" in text
