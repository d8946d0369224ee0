"""YOLO: lines of polygons from 0 to 1, in the layouts of Ultralytics and Roboflow."""

import pytest

from mit_semseg.errors import UserError

FULL = "0 0 0 1 0 1 1 0 1"
LEFT = "1 0 0 0.5 0 0.5 1 0 1"


@pytest.fixture
def write(tmp_path, make):
    """``write({"images/train/a.jpg": lines})``: images, labels and data.yaml."""
    source = tmp_path / "s"

    def run(lines, names="[road, car]"):
        for path, text in lines.items():
            make.image(source / path)
            label = (source / path.replace("images", "labels")).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
        if names:
            (source / "data.yaml").write_text(
                f"path: .\ntrain: images/train\nval: images/val\nnc: 2\nnames: {names}\n"
            )
        return source

    return run


@pytest.mark.parametrize(
    ("train", "val"),
    [("images/train/a.jpg", "images/val/b.jpg"), ("train/images/a.jpg", "valid/images/b.jpg")],
)
@pytest.mark.parametrize("names", ["[road, car]", "{0: road, 1: car}"])
def test_both_layouts_are_read(prepare, write, make, train, val, names):
    source = write({train: f"{FULL}\n{LEFT}\n", val: f"{FULL}\n\n0 0.5 0.5 0.2 0.2\n"}, names)
    make.image((source / train).with_name("c.jpg"))
    out = prepare("yolo", source)
    assert out.classes.names == ("road", "car")
    assert (out.label("a") == [2, 2, 2, 1, 1, 1]).all()
    assert (out.label("b") == 1).all()
    assert (out.names("training"), out.names("validation")) == (["a"], ["b"])
    assert "1 image is not annotated, and so not used" in out.said
    assert "Without an area, and so omitted: 1 of the kind box." in out.said


def test_names_may_be_in_a_text_file_or_missing(prepare, write):
    source = write({"images/a.jpg": f"2{FULL[1:]}", "images/b.jpg": FULL}, names="")
    out = prepare("yolo", source)
    assert out.classes.names == ("class 0", "class 1", "class 2")
    assert (out.label("a") == 3).all()
    assert "No data.yaml or classes.txt names the classes" in out.said
    (source / "classes.txt").write_text("road\ncar\ntree\n")
    assert prepare("yolo", source).classes.names == ("road", "car", "tree")


def test_gaps_in_the_numbers_and_double_names_are_named(prepare, write):
    out = prepare("yolo", write({"images/a.jpg": f"3{FULL[1:]}\n{LEFT}"}, "{1: car, 3: road, 4: car}"))
    assert out.classes.names == ("class 0", "car", "class 2", "road")
    assert "Names that occur twice, and are one class: car." in out.said


def test_what_is_wrong_is_named_with_its_line(prepare, write):
    source = write(
        {
            "images/a.jpg": f"{FULL}\n9 0 0 1 0 1 1\n",
            "images/b.jpg": "0 0 0 1 0 1 1 0\n",
            "images/c.jpg": "0 0 0 100 0 100 100\nroad 0 0 1 1 0 1\n",
            "images/d.jpg": FULL,
        }
    )
    (source / "images" / "d.jpg").unlink()
    (source / "images" / "a.jpg").rename(source / "images" / "a.JPG")
    with pytest.raises(UserError) as raised:
        prepare("yolo", source)
    text = str(raised.value)
    assert "labels/a.txt: line 2 has the class 9, but there are 2 names, from 0, image images/a.JPG." in text
    assert "labels/b.txt: line 1 has 7 numbers after the class, which are not pairs" in text
    assert "labels/c.txt: line 1 has the coordinate 100; they go from 0 to 1; line 2 " in text
    assert "labels/d.txt: there is no image called d." in text
