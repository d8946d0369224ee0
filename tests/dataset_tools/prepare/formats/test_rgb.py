import numpy as np
import pytest

from mit_semseg.dataset_tools.prepare.labels import parse_colors
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
    with pytest.raises(UserError, match=r"9,9,9: 12 pixels in 2 files; the nearest row is unlabelled, 0,0,0"):
        prepare("rgb", release, "--colors", table)
    out = prepare("rgb", release, "--colors", table, "--unknown-colors", "unlabelled")
    assert out.label("train_1")[0].tolist() == [1, 2, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,red,green\na,1,2\n", "has no column blue; its header must be name,red,green,blue"),
        (
            "name,red,green,blue\na,1,2,300\n",
            "line 2 is 'a,1,2,300'; it needs a name and a colour from 0 to 255",
        ),
        ("name,red,green,blue\na,1,2,3\nb,1,2,3\n", "gives a and b the same colour, 1,2,3"),
        ("name,red,green,blue\n", "has no row below its header"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(prepare, release, tmp_path, text, message):
    table = tmp_path / "colors.csv"
    table.write_text(text)
    with pytest.raises(UserError) as raised:
        prepare("rgb", release, "--colors", table)
    assert message in str(raised.value)


NEARLY = "name,r,g,b\nbrick,201,0,1\nlawn,0,199,0\nVoid,9,9,9\n"


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_may_be_separated_by_commas_semicolons_or_tabs(mark):
    wanted = [("road, or path", (1, 2, 3)), ("car", (4, 5, 6))]
    cells = [["red", "green", "blue", "name"], ["1", "2", "3", '"road, or path"'], ["4", "5", "6", "car"]]
    text = "".join(mark.join(row) + "\n" for row in cells)
    assert parse_colors(text, "colors.csv") == parse_colors(f"sep={mark}\n{text}", "colors.csv") == wanted
    plain = "".join(mark.join(row) + "\n" for row in cells[1:])
    assert parse_colors(plain.replace('"', ""), "colors.txt") == wanted


def test_all_unknown_colours_are_listed_once_with_their_nearest_rows(prepare, release):
    (release / "class_dict.csv").write_text(NEARLY)
    with pytest.raises(UserError) as caught:
        prepare("rgb", release)
    text = str(caught.value)
    assert "train_1_L.png has 2 colours that the table has not, 12 pixels." in text
    assert "  200,0,0: 12 pixels in 2 files; the nearest row is brick, 201,0,1 (distance 1.4)\n" in text
    assert "  0,200,0: 12 pixels in 2 files; the nearest row is lawn, 0,199,0 (distance 1.0)\n" in text
    assert "--unknown-colors nearest" in text
    out = prepare("rgb", release, "--unknown-colors", "nearest")
    assert out.label("train_1")[0].tolist() == [1, 2, 0, 0, 1, 2]
    assert (
        "taken for the nearest row: 24, with a distance of up to 1.4: lawn 12 (distance up to 1.0), brick 12 "
        "(distance up to 1.4)."
    ) in out.said
    assert "unlabelled:" not in out.said


def test_a_colour_between_two_rows_is_not_taken_for_either(prepare, release, make):
    values = np.resize(np.array([RED, GREEN, (100, 100, 0), (190, 5, 5)]), (4, 6, 3))
    make.colored(release / "train_labels" / "train_1_L.png", values)
    out = prepare("rgb", release, "--unknown-colors", "nearest")
    assert out.label("train_1")[0].tolist() == [1, 2, 0, 0, 1, 2]  # the smallest distance is 9 x sqrt(3)
    assert "7.8 or more from every row, so they are unlabelled: 12." in out.said


def test_lossy_colours_are_refused_until_they_are_taken_for_near_ones(prepare, release):
    from PIL import Image

    (release / "class_dict.csv").write_text("name,r,g,b\nbrick,200,0,0\nlawn,0,200,0\n")
    for path in release.rglob("*_L.png"):
        colors = np.array(Image.open(path).convert("RGB").resize((60, 40), 0))
        Image.fromarray(colors).save(path, "JPEG", quality=95)
        Image.new("RGB", (60, 40)).save(path.parents[1] / path.parent.name[:-7] / f"{path.stem[:-2]}.png")
    with pytest.raises(UserError, match=r"is a JPEG file, whose compression changes colours"):
        prepare("rgb", release)
    out = prepare("rgb", release, "--unknown-colors", "nearest")
    assert out.label("train_1")[5, [5, 15, 25]].tolist() == [1, 2, 0]


def test_the_rows_that_are_no_class_are_reported(prepare, release):
    said = prepare("rgb", release).said
    assert f"The colours are those of {release / 'class_dict.csv'}." in said
    assert "Unlabelled, by the names of their rows: Void (9,9,9)." in said
    assert "Black (0,0,0) has no row, so it is unlabelled." in said


def test_several_tables_are_not_chosen_from_unless_they_are_equal(prepare, release):
    text = (release / "class_dict.csv").read_text()
    (release / "train_labels" / "labelmap.txt").write_text("brick:200,0,0::\nlawn:0,200,0::\nVoid:9,9,9::\n")
    (release / "scores.csv").write_text("image,score\n1,2\n")  # no table of colours
    assert prepare("rgb", release).classes.names == ("brick", "lawn")
    (release / "other.csv").write_text(text.replace("200,0,0", "201,0,0"))
    with pytest.raises(UserError, match=r"several tables of colours: .*such as --colors .*class_dict.csv"):
        prepare("rgb", release)
    assert prepare("rgb", release, "--colors", release / "class_dict.csv").classes.names == ("brick", "lawn")


def test_without_a_table_it_asks_for_one(prepare, release):
    (release / "class_dict.csv").unlink()
    with pytest.raises(UserError, match=r"holds no table of colours: .* Name it with --colors"):
        prepare("rgb", release)
