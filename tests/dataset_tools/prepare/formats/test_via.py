"""VIA 2: regions of JSON exports and projects, and the attribute that is the class."""

import json

import pytest

from mit_semseg.errors import UserError


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def polygon(xs, ys, **attributes):
    return region({"name": "polygon", "all_points_x": xs, "all_points_y": ys}, **attributes)


def rect(x, y, width, height, **attributes):
    return region({"name": "rect", "x": x, "y": y, "width": width, "height": height}, **attributes)


@pytest.fixture
def write(tmp_path, make):
    """``write({"a.jpg": regions})``: via.json as "Annotations > Export as JSON" gives it, and the images."""
    source = tmp_path / "s"

    def run(regions, project=None):
        images = {}
        for name, of_image in regions.items():
            make.image(source / name)
            size = (source / name).stat().st_size
            images[f"{name}{size}"] = {
                "filename": name,
                "size": size,
                "regions": of_image,
                "file_attributes": {},
            }
        content = images
        if project is not None:
            content = {
                "_via_settings": {},
                "_via_img_metadata": images,
                "_via_attributes": {"region": project, "file": {}},
            }
        (source / "via.json").write_text(json.dumps(content))
        return source

    return run


def rows(label):
    return ["".join(map(str, row)) for row in label]


ALL = polygon([0, 6, 6, 0], [0, 0, 4, 4], kind="road")


def test_all_kinds_of_areas_are_painted(prepare, write):
    shapes = [
        ALL,
        rect(0, 0, 2, 1, kind="car"),
        region({"name": "circle", "cx": 5.5, "cy": 0.5, "r": 0.8}, kind="car"),
        region({"name": "ellipse", "cx": 2, "cy": 3, "rx": 0.9, "ry": 2.2, "theta": 1.5707963}, kind="tree"),
        region({"name": "point", "cx": 2, "cy": 2}, kind="car"),
    ]
    out = prepare("via", write({"a.jpg": shapes, "b.jpg": {"0": ALL}}))
    assert out.classes.names == ("car", "road", "tree")
    assert rows(out.label("a")) == ["112221", "222222", "333322", "333322"]
    assert "Without an area, and so omitted: 1 of the kind point." in out.said


def test_a_project_orders_the_classes_and_names_their_attribute(prepare, write):
    project = {
        "class": {"type": "checkbox", "options": {"road": "", "car": "", "sky": ""}, "default_options": {}},
        "note": {"type": "text"},
    }
    shapes = [
        rect(0, 0, 6, 4, **{"class": {"road": True}, "note": "wet"}),
        rect(0, 0, 3, 4, **{"class": {"car": True}, "note": "red"}),
    ]
    out = prepare("via", write({"a.jpg": shapes}, project))
    assert out.classes.names == ("road", "car", "sky")
    assert rows(out.label("a"))[0] == "222111"
    assert 'the classes are the values of the attribute "class"; not used: note.' in out.said


def test_regions_without_attributes_are_of_one_class(prepare, write):
    out = prepare("via", write({"a.jpg": [rect(0, 0, 3, 4)]}), "--background")
    assert out.classes.names == ("background", "object")
    assert rows(out.label("a"))[0] == "222111"


def test_what_is_wrong_is_named(prepare, write):
    source = write(
        {
            "a.jpg": [ALL, polygon([0, 1, 2], [0, 1], kind="car")],
            "b.jpg": [ALL, rect(0, 0, 1, 1)],
            "c.jpg": [rect(0, 0, "x", 1, kind="car")],
        }
    )
    with pytest.raises(UserError) as raised:
        prepare("via", source)
    text = str(raised.value)
    assert "via.json: region 2 has not as many x as y, image a.jpg." in text
    assert 'via.json: region 2 has no value for "kind", and so no class, image b.jpg.' in text
    assert "via.json: region 1 has width 'x', which is not a number, image c.jpg." in text
    write({"a.jpg": [rect(0, 0, 1, 1, color="red", size="s")]})
    with pytest.raises(UserError, match=r"several attributes \(color, size\), and none of them is the class"):
        prepare("via", source)
