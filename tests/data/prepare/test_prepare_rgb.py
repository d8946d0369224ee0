import numpy as np
import pytest

from mit_semseg.errors import UserError

RED, GREEN, BLACK, GRAY = (200, 0, 0), (0, 200, 0), (0, 0, 0), (9, 9, 9)


@pytest.fixture
def release(tmp_path, make):
    source = tmp_path / "s"
    for part in ("train", "val"):
        make.image(source / part / f"{part}_1.png")
        values = np.resize(np.array([RED, GREEN, BLACK, GRAY]), (4, 6, 3))
        make.colored(source / f"{part}_labels" / f"{part}_1_L.png", values)
    (source / "class_dict.csv").write_text("name,r,g,b\nbrick,200,0,0\nlawn,0,200,0\nVoid,9,9,9\n")
    return source


def test_rows_of_the_table_are_the_classes(prepare, release):
    out = prepare("rgb", release)
    assert out.label("train_1")[0].tolist() == [1, 2, 0, 0, 1, 2]
    assert out.classes.names == ("brick", "lawn")
    assert out.classes.colors.tolist() == [list(RED), list(GREEN)]
    assert (out.names("training"), out.names("validation")) == (["train_1"], ["val_1"])


def test_a_table_can_be_given_and_black_can_be_a_class(prepare, release, tmp_path):
    table = tmp_path / "colors.csv"
    table.write_text(
        "index,Name,Red,Green,Blue\n3,lawn,0,200,0\n1,brick,200,0,0\n2,shade,0,0,0\n4,gray,9,9,9\n"
    )
    out = prepare("rgb", release, "--colors", table)
    assert out.label("train_1")[0].tolist() == [1, 3, 2, 4, 1, 3]
    assert out.classes.names == ("brick", "shade", "lawn", "gray")
    out = prepare("rgb", release, "--colors", table, "--map", "4:1, 2:0, 3:2")
    assert out.label("train_1")[0].tolist() == [1, 2, 0, 1, 1, 2]
    assert out.classes.names[:2] == ("brick", "lawn")


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_colours_are_read_from_images_of_any_mode(prepare, release, mode):
    from PIL import Image

    for path in release.rglob("*_L.png"):
        opened = Image.open(path)
        opened.load()
        if mode == "RGBA":
            opened.putalpha(0)
            opened.save(path)
        else:
            opened.convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save(path, transparency=0)
    assert prepare("rgb", release).label("val_1")[0].tolist() == [1, 2, 0, 0, 1, 2]


def test_a_colour_outside_of_the_table_is_named(prepare, release, tmp_path):
    table = tmp_path / "colors.csv"
    table.write_text("name,red,green,blue\nbrick,200,0,0\nlawn,0,200,0\n")
    with pytest.raises(UserError, match=r"_L.png holds the colour 9,9,9, .*\(6 pixels"):
        prepare("rgb", release, "--colors", table)
    out = prepare("rgb", release, "--colors", table, "--unknown-colors", "unlabelled")
    assert out.label("train_1")[0].tolist() == [1, 2, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,red,green\na,1,2\n", "has no column blue; its header should be name,red,green,blue"),
        (
            "name,red,green,blue\na,1,2,300\n",
            "line 2 is 'a,1,2,300'; it needs a name and a colour from 0 to 255",
        ),
        ("name,red,green,blue\na,1,2,3\nb,1,2,3\n", "gives a and b one colour, 1,2,3"),
        ("name,red,green,blue\n", "has no row below its header"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(prepare, release, tmp_path, text, message):
    table = tmp_path / "colors.csv"
    table.write_text(text)
    with pytest.raises(UserError) as raised:
        prepare("rgb", release, "--colors", table)
    assert message in str(raised.value)


def test_without_a_table_it_asks_for_one(prepare, release):
    (release / "class_dict.csv").unlink()
    with pytest.raises(UserError, match=r"holds no CSV file. Name the table of colours with --colors"):
        prepare("rgb", release)
