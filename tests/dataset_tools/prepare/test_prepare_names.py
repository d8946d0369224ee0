"""Names of classes with and without values, as people have them."""

import pytest

from mit_semseg.dataset_tools.prepare.names import read_names
from mit_semseg.errors import UserError

WITH_VALUES = {
    "Roboflow": "Pixel Value, Class\n0, background\n1, car\n2, grass\n",
    "index first": "index,name\n0,background\n1,car\n2,grass\n",
    "name first": "Name,ID\nbackground,0\ncar,1\ngrass,2\n",
    "any order": "index,name\n2,grass\n0,background\n1,car\n",
    "semicolons": "value;label\n0;background\n1;car\n2;grass\n",
    "tabs": "class\tname\n0\tbackground\n1\tcar\n2\tgrass\n",
    "a spreadsheet": 'sep=;\n"index";"name";"note"\n0;"background";"a, b"\n1;"car";\n2;"grass";\n',
    "commas in a name of a column": "Pixel Value;Class, Name\n0;background\n1;car\n2;grass\n",
    "no header, semicolons": "0;background\n1;car\n2;grass\n",
    "no header, tabs": "background\t0\ncar\t1\ngrass\t2\n",
    "lines": "0: background\n1: car\n2: grass\n",
    "lines with spaces": "0 background\n1 car\n2 grass\n",
    "lines with equals, comments": "# classes\n0 = background\n\n1 = car\n2 = grass\n",
    "no header": "0,background\n1,car\n2,grass\n",
    "no header, names first": "background,0\ncar,1\ngrass,2\n",
    "JSON by value": '{"0": "background", "1": "car", "2": "grass"}',
    "JSON by name": '{"background": 0, "car": 1, "grass": 2}',
    "JSON objects": '[{"id": 0, "name": "background"}, {"id": 1, "name": "car"}, {"id": 2, "name": "grass"}]',
    "COCO's categories": '{"info": {}, "categories": [{"id": 2, "name": "grass"}, {"id": 0, "name": '
    '"background"}, {"id": 1, "name": "car"}]}',
    "lines with dashes": "0 - background\n1 - car\n2 - grass\n",
    "lines with brackets": "[0] background\n[1] car\n[2] grass\n",
    "lines with dots": "0. background\n1. car\n2. grass\n",
    "lines with colours": "0:background:1,2,3\n1:car:4,5,6\n2:grass:7,8,9\n",
    "colours too": "index,name,red,green,blue\n0,background,1,2,3\n1,car,4,5,6\n2,grass,7,8,9\n",
}
IN_ORDER = {
    "lines": "background\n\ncar\ngrass\n",
    "a table of colours": "name,r,g,b\nbackground,1,2,3\ncar,4,5,6\ngrass,7,8,9\n",
    "colours and semicolons": "name;r;g;b\nbackground;1;2;3\ncar;4;5;6\ngrass;7;8;9\n",
    "CVAT": "# label:color_rgb:parts:actions\nbackground:1,2,3::\ncar:4,5,6::\ngrass:7,8,9::\n",
    "one line": "background, car, grass\n",
    "quotes": '"background"\n"car"\n"grass"\n',
    "a YAML list": "- background\n- car\n- grass\n",
    "a JSON list": '["background", "car", "grass"]',
}


@pytest.fixture
def read(tmp_path):
    def run(text, **options):
        (tmp_path / "names").write_text(text, encoding="utf-8")
        return read_names(str(tmp_path / "names"), **options)

    return run


@pytest.mark.parametrize("kind", WITH_VALUES)
def test_names_that_come_with_values_keep_them(read, kind):
    names = read(WITH_VALUES[kind])
    assert names.table.names == ("background", "car", "grass")
    assert names.values == (0, 1, 2)
    if kind in ("colours too", "lines with colours"):
        assert names.table.colors.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("kind", IN_ORDER)
def test_names_without_values_count_in_their_order(read, kind):
    names = read(IN_ORDER[kind])
    assert names.table.names == ("background", "car", "grass")
    assert (names.values, names.first) == ((), "background")
    if kind in ("CVAT", "a table of colours"):
        assert names.table.colors.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("names:\n  0: background\n  1: car\n", (0, 1)),
        ("path: .\nnc: 2\nnames: [background, car]\n", ()),
        ("background: 0\ncar: 1\n", (0, 1)),
    ],
)
def test_yaml_files_of_datasets_give_their_names(tmp_path, text, values):
    (tmp_path / "data.yaml").write_text(text)
    names = read_names(str(tmp_path / "data.yaml"))
    assert (names.table.names, names.values) == (("background", "car"), values)


def test_numbers_may_be_part_of_a_name_and_values_may_have_gaps(read):
    coins = read("1 cent\n2 cents\n5 cents\n")
    assert (coins.values, coins.table.names) == ((), ("1 cent", "2 cents", "5 cents"))
    gaps = read("7: road\n26: car\n255: void\n")
    assert (gaps.values, gaps.table.names, gaps.unlabelled) == ((7, 26), ("road", "car"), {255: "void"})


def test_labelmes_names_for_no_class_are_skipped_unless_0_is_a_class(read):
    text = "__ignore__\n_background_\nroad\n"
    assert read(text).table.names == ("road",)
    assert read(text).first == "_background_"
    assert read(text, offset=0).table.names == ("_background_", "road")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no class. It needs one name per line"),
        ("0: void\n", "names no class"),
        ("0: a\n0: b\n", "gives the value 0 to a and to b"),
        ("index,name\n1,a\nx,b\n", 'line 3 has "x" for index, which is not a label value'),
        ("index,name\n1,a,b\n", "line 2 has 3 cells, but its header has 2"),
        ("index,red,green,blue\n1,2,3,4\n", "has no column of names"),
        ("index,name,r,g,b\n1,a,2,3,400\n", "line 2 has the colour 2,3,400"),
        ('item {\n  id: 1\n  name: "car"\n}\n', "'item {' is not the name of a class"),
        ("names:\n  0: background\n", "'names:' is not the name of a class"),
        ("| id | name |\n|----|------|\n| 0 | car |\n", "is not the name of a class"),
        ('{"shapes": ["a"]}', "is not a table of names"),
    ],
)
def test_what_is_wrong_with_a_file_of_names_is_said(read, text, message):
    with pytest.raises(UserError) as caught:
        read(text)
    assert message in str(caught.value)


@pytest.fixture
def masks(tmp_path, make):
    source = tmp_path / "photos"
    for name in "abc":
        make.image(source / f"{name}.jpg")
        make.label(source / f"{name}_mask.png", make.full([0, 1, 2]))
    return source


@pytest.mark.parametrize("kind", ["Roboflow", "index first", "lines", "JSON by name"])
def test_value_1_is_called_as_the_file_says(prepare, masks, tmp_path, kind):
    (tmp_path / "names").write_text(WITH_VALUES[kind])
    out = prepare("folders", masks, "--label-suffix", "_mask", "--names", tmp_path / "names")
    assert out.classes.names == ("background", "car", "grass")
    assert out.label("a")[0].tolist() == [1, 2, 3, 1, 2, 3]
    assert "0 (background) is class 1, 1 (car) is class 2, 2 (grass) is class 3." in out.said


def test_a_value_called_void_is_unlabelled_and_a_map_still_holds(prepare, masks, tmp_path):
    names = tmp_path / "names"
    names.write_text("0: void\n1: car\n2: grass\n")
    out = prepare("folders", masks, "--names", names)
    assert (out.classes.names, out.label("a")[0, :3].tolist()) == (("car", "grass"), [0, 1, 2])
    assert "0 (void) is unlabelled, 1 (car) is class 1" in out.said
    out = prepare("folders", masks, "--names", names, "--map", "0:1, 1:2, 2:2")
    assert out.label("a")[0, :3].tolist() == [1, 2, 2]
    names.write_text("0: void\n1: car\n3: grass\n")
    with pytest.raises(UserError, match=r"names gives no name to 2\. Add a row, or .* --ignore 2\."):
        prepare("folders", masks, "--names", names)
    names.write_text("1: background\n2: car\n3: grass\n")
    with pytest.raises(UserError, match=r"3 names, and the labels hold 0 to 2.*--label-offset 0.*-offset 1"):
        prepare("folders", masks, "--names", names)
    assert prepare("folders", masks, "--names", names, "--label-offset", 0).label("a")[0, 0] == 1


@pytest.mark.parametrize("first", ["background", "void", "_background_", "Unlabelled", "road"])
def test_a_first_name_that_may_belong_to_0_is_not_guessed(prepare, masks, tmp_path, first):
    names = tmp_path / "names.txt"
    names.write_text(f"{first}\ncar\ngrass\n")
    words = ("folders", masks, "--names", names)
    with pytest.raises(UserError) as caught:
        prepare(*words)
    assert f'If 0 is "{first}"' in str(caught.value)
    out = prepare(*words, "--label-offset", 0)
    assert (out.classes.names, out.label("a")[0, 0]) == ((first, "car", "grass"), 1)
    if first == "road":
        assert "--label-offset 1" in str(caught.value)
        out = prepare(*words, "--label-offset", 1)
        assert (out.classes.names, out.label("a")[0, 1]) == (("road", "car", "grass"), 1)
    else:
        assert "If it is unlabelled, remove that line." in str(caught.value)
        names.write_text("car\ngrass\n")
        out = prepare(*words)
        assert (out.classes.names, out.label("a")[0, 1]) == (("car", "grass"), 1)


def test_numbers_that_count_classes_are_not_values_of_a_format_with_its_own(prepare, tmp_path, make):
    for name in "ab":
        make.image(tmp_path / "s" / "images" / "training" / f"{name}.jpg")
        make.label(tmp_path / "s" / "annotations" / "training" / f"{name}.png", make.full([1, 2]))
    names = tmp_path / "names.csv"
    names.write_text("index,name\n" + "".join(f"{k},name {k}\n" for k in range(150)))
    assert prepare("ade20k", tmp_path / "s", "--names", names).classes.names[:2] == ("name 0", "name 1")
    names.write_text("index,name\n1,a\n3,b\n")
    with pytest.raises(UserError, match="must have a row for each class"):
        prepare("ade20k", tmp_path / "s", "--names", names)
