import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from mit_semseg.errors import UserError


def shape(name, points, kind="polygon", **more):
    return {"label": name, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def box(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


@pytest.fixture
def write(tmp_path, make):
    """``write("a", shapes)``: a.jpg and a.json as LabelMe saves them."""
    source = tmp_path / "s"

    def run(name, shapes, size=(30, 20), image_path=None, embed=False, exif=None, **more):
        path = source / f"{name}.jpg"
        make.image(path, size, **({"exif": exif} if exif else {}))
        content = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": image_path or path.name,
            "imageData": base64.b64encode(path.read_bytes()).decode() if embed else None,
            "imageHeight": size[1],
            "imageWidth": size[0],
            **more,
        }
        path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
        return source

    return run


def test_later_shapes_lie_over_earlier_ones_and_names_come_from_all_files(prepare, write):
    write("a", [shape("road", box(0, 0, 29, 19)), shape("car", box(10, 5, 19, 9))])
    source = write("b", [shape("tree", [[0, 0], [9, 9]], "rectangle")])
    out = prepare("labelme", source)
    assert out.classes.names == ("car", "road", "tree")
    label = out.label("a")
    assert (label[5:10, 10:20] == 1).all()
    assert (label == 1).sum() == 50
    assert (label == 2).sum() == 600 - 50
    assert (out.label("b") == 3).sum() == 100
    assert "so training ignores them; --background makes them a class." in out.said


def test_the_outside_can_be_a_class(prepare, write):
    source = write(
        "a", [shape("tree", [[0, 0], [9, 9]], "rectangle"), shape("__ignore__", box(20, 0, 29, 19))]
    )
    out = prepare("labelme", source, "--background")
    assert out.classes.names == ("background", "tree")
    label = out.label("a")
    assert ((label == 2).sum(), (label == 0).sum(), (label == 1).sum()) == (100, 200, 300)
    with pytest.raises(UserError, match=r'only the class "tree"; .* --background makes the pixels outside'):
        prepare("labelme", source)


def test_all_kinds_of_shapes_are_drawn(prepare, write):
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 4), 255, np.uint8)).save(buffer, "PNG")
    shapes = [
        shape("a circle", [[10, 10], [10, 13]], "circle"),
        shape("b line", [[0, 18], [29, 18]], "line"),
        shape("c point", [[25, 5]], "point"),
        shape("d mask", [[2, 1], [5, 3]], "mask", mask=base64.b64encode(buffer.getvalue()).decode()),
        shape("e strip", [[15, 0], [15, 8], [16, 8]], "linestrip"),
        shape("f old", box(0, 5, 3, 8), None),
    ]
    label = prepare("labelme", write("a", shapes)).label("a")
    assert label[10, 10] == 1
    assert label[10, 14] == 0
    assert (label[18] == 2).all()
    assert label[5, 25] == 3
    assert (label[1:4, 2:6] == 4).all()
    assert (label == 4).sum() == 12
    assert label[4, 15] == 5
    assert (label[5:9, 0:4] == 6).all()


def test_named_classes_omit_the_others(prepare, write, tmp_path):
    source = write(
        "a", [shape("car", box(0, 0, 5, 5)), shape("dog", box(8, 8, 9, 9)), shape("road", box(9, 0, 20, 3))]
    )
    names = tmp_path / "labels.txt"
    names.write_text("__ignore__\n_background_\nroad\ncar\n")
    out = prepare("labelme", source, "--names", names)
    assert out.classes.names == ("road", "car")
    assert out.label("a")[[0, 8, 0], [0, 8, 12]].tolist() == [2, 0, 1]
    assert 'does not name are omitted: "dog" (1).' in out.said


def test_an_image_is_taken_from_where_it_is_said_to_be_or_from_the_file(prepare, write, tmp_path):
    shapes = [shape("a", box(0, 0, 5, 5)), shape("b", box(8, 8, 9, 9))]
    source = write("json/one", shapes, image_path="..\\images\\one.jpg")
    (source / "images").mkdir()
    (source / "json" / "one.jpg").rename(source / "images" / "one.jpg")
    write("json/two", shapes, embed=True)
    data = (source / "json" / "two.jpg").read_bytes()
    (source / "json" / "two.jpg").unlink()
    write("json/three", shapes, image_path="C:\\elsewhere\\three.jpg")
    out = prepare("labelme", source)
    records = out.records("training") + out.records("validation")
    assert len(records) == 3
    (two,) = (record["fpath_img"] for record in records if "two" in record["fpath_img"])
    assert (out.folder / two).read_bytes() == data
    assert two.endswith("json/two.jpg")


def test_a_path_out_of_the_source_is_not_followed(prepare, write, tmp_path, make):
    make.image(tmp_path / "secret.jpg", (30, 20))
    shapes = [shape("a", box(0, 0, 5, 5)), shape("b", box(8, 8, 9, 9))]
    source = write("one", shapes, image_path="../secret.jpg")
    (source / "one.jpg").unlink()
    with pytest.raises(UserError, match=r"one.json names an image that does not exist, and does not hold it"):
        prepare("labelme", source)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_shapes_drawn_on_the_upright_image_meet_the_pixels_as_stored(prepare, write, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    source = write("a", [], size=(30, 20), exif=exif)
    with Image.open(source / "a.jpg") as stored:
        upright = ImageOps.exif_transpose(stored).size
    shapes = [shape("b", box(0, 0, *upright)), shape("a", box(0, 0, 4, 2))]
    content = json.loads((source / "a.json").read_text())
    content.update(shapes=shapes, imageWidth=upright[0], imageHeight=upright[1])
    (source / "a.json").write_text(json.dumps(content))
    label = prepare("labelme", source).label("a")
    assert label.shape == (20, 30)
    tag = Image.fromarray(label)
    tag.info["exif"] = exif.tobytes()
    tag.getexif()[0x0112] = orientation
    turned = np.array(ImageOps.exif_transpose(tag))
    assert turned.shape == upright[::-1]
    assert (turned[:3, :5] == 1).all()
    assert (turned == 1).sum() == 15


def test_what_cannot_be_drawn_is_named(prepare, write):
    write("a", [shape("a", [[1, 1], [2, 2]])])
    write("b", [shape("a", box(0, 0, 3, 3), "blob")])
    write("c", [shape("a", box(0, 0, 3, 3)), shape("b", [["x", 1], [2, 2], [3, 3]])])
    write("d", [shape("a", box(0, 0, 3, 3))], imageWidth=99)
    source = write("e", [shape("a", box(0, 0, 3, 3)), shape("b", box(9, 9, 12, 12))])
    (source / "f.json").write_text('{"shapes": [')
    (source / "other.json").write_text('{"images": []}')
    with pytest.raises(UserError) as raised:
        prepare("labelme", source)
    text = str(raised.value)
    assert "5 of 6 images or labels cannot be used" in text
    assert "a.json: shape 1 cannot be drawn (a polygon of 2 points)" in text
    assert "b.json: shape 1 cannot be drawn (unknown shape_type blob)" in text
    assert "c.json: shape 2 cannot be drawn" in text
    assert "d.json was drawn on 99 x 20 pixels, but its image has 30 x 20" in text
    assert "f.json is not JSON" in text
    out = prepare("labelme", source, "--skip-bad")
    assert out.names("training") == ["e"]
    assert "1 other JSON files are omitted" in out.said


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            {"mask": base64.b64encode(b"no image").decode()},
            "shape 1 cannot be drawn (its mask is not an image).",
        ),
        ({"mask": "%%%"}, "shape 1 cannot be drawn (its mask is not an image)."),
        ({"mask": None}, "shape 1 cannot be drawn (TypeError("),
    ],
)
def test_a_damaged_mask_is_named_with_its_shape(prepare, write, damage, says):
    write("a", [shape("a", [[0, 0], [3, 3]], "mask", **damage), shape("b", box(0, 0, 3, 3))])
    with pytest.raises(UserError) as raised:
        prepare("labelme", write("b", [shape("b", box(0, 0, 3, 3))]))
    assert f"a.json: {says}" in str(raised.value)


def test_sizes_may_be_text_if_they_are_numbers(prepare, write):
    write("a", [shape("a", box(0, 0, 3, 3)), shape("b", box(9, 9, 12, 12))], imageWidth="30")
    out = prepare("labelme", write("b", [shape("b", box(0, 0, 3, 3))]))
    assert out.label("a").shape == (20, 30)
    for width in ("wide", float("inf")):
        with pytest.raises(UserError, match=r"b.json: imageWidth or imageHeight is not a number of pixels"):
            prepare("labelme", write("b", [shape("b", box(0, 0, 3, 3))], imageWidth=width))


def test_damaged_image_data_in_the_file_is_named(prepare, write):
    source = write("a", [shape("b", box(0, 0, 3, 3))], imageData="AAAA")
    (source / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"the image in .*a.json is not an image that Pillow can read\."):
        prepare("labelme", source)


def test_a_second_run_changes_nothing(prepare, write, make):
    source = write("a", [shape("a", box(0, 0, 5, 5)), shape("b", box(8, 8, 9, 9))], embed=True)
    (source / "a.jpg").unlink()
    out = prepare("labelme", source)
    before = make.snapshot(out.folder)
    prepare("labelme", source)
    assert make.snapshot(out.folder) == before


def saved(folder, name, shapes, image="a.png", **more):
    content = {"shapes": shapes, "imagePath": image, "imageData": None, "imageWidth": 6, "imageHeight": 4}
    (folder / f"{name}.json").write_text(json.dumps({**content, **more}))


def polygon(name, points, kind="polygon"):
    return {"label": name, "points": points, "shape_type": kind}


SQUARE = [[0, 0], [3, 0], [3, 3], [0, 3]]


def test_all_files_with_a_problem_are_named_with_the_place(prepare, make, tmp_path):
    source = tmp_path / "source"
    for name in "abcde":
        make.image(source / f"{name}.png")
    saved(source, "a", [polygon("x", SQUARE), polygon("", SQUARE)])
    saved(source, "b", [polygon("x", [[1, 1]])], "b.png")
    saved(source, "c", [polygon("x", SQUARE)], "c.png")
    saved(source, "c_copy", [polygon("x", SQUARE)], "c.png")
    saved(source, "d", [{"label": "y", "shape_type": "polygon"}], "d.png")
    saved(source, "e", [polygon("y", SQUARE)], "e.png")
    with pytest.raises(UserError) as error:
        prepare("labelme", source, "--background")
    text = str(error.value)
    assert f"{source / 'a.json'}: shape 2 has no class." in text
    assert f"{source / 'b.json'}: shape 1 cannot be drawn (a polygon of 1 points)." in text
    assert f"{source / 'c.png'} is annotated in {source / 'c.json'} and in {source / 'c_copy.json'}." in text
    assert f"{source / 'd.json'}: shape 1 cannot be drawn (KeyError('points'))." in text
    assert "e.json" not in text


def test_shapes_outside_and_those_that_cross_themselves_are_counted(prepare, make, tmp_path):
    source = tmp_path / "source"
    make.image(source / "a.png")
    crossing = [[0, 0], [5, 3], [5, 0], [0, 3]]
    saved(source, "a", [polygon("x", [[20, 20], [30, 20], [30, 30]]), polygon("y", crossing)])
    said = prepare("labelme", source, "--background", "--val-share", "0").said
    assert f"cut off there: 1 ({source / 'a.json'}: shape 1)." in said
    assert f"(even-odd rule): 1 ({source / 'a.json'}: shape 2)." in said


def test_an_export_without_a_shape_is_refused(prepare, make, tmp_path):
    source = tmp_path / "source"
    make.image(source / "a.png")
    saved(source, "a", [])
    with pytest.raises(UserError, match=r"the export is empty: 1 images, and no shape\."):
        prepare("labelme", source, "--background")


def test_oriented_rectangles_are_drawn_as_labelme_draws_them(prepare, make, tmp_path):
    source = tmp_path / "source"
    make.image(source / "a.png")
    saved(source, "a", [polygon("x", [[0, 0], [2, 0], [2, 1], [0, 1]], "oriented_rectangle")])
    found = prepare("labelme", source, "--background", "--val-share", "0")
    assert (found.label("a") == 2).sum() == 6
