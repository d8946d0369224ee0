import csv
from pathlib import Path

import numpy as np
import pytest

from mit_semseg.data.classes import ClassTable, load_classes, palette, write_classes
from mit_semseg.errors import UserError

DATA = Path(__file__).parents[2] / "data"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_are_sorted_by_index_and_the_first_synonym_is_the_name(tmp_path):
    path = write(
        tmp_path / "c.csv", 'Index, NAME ,red,green,blue,note\n2,car;auto,4,5,6,x\n1,"sky, blue",1,2,3,\n\n'
    )
    table = load_classes(str(path), 2)
    assert table.names == ("sky, blue", "car")
    assert table.colors.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert table.colors.dtype == np.uint8


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_of_a_spreadsheet_may_have_semicolons_or_tabs(tmp_path, mark):
    rows = ("Index,Name,Red,Green,Blue", '1,"sky;blue",1,2,3', "2,car,4,5,6")
    path = write(tmp_path / "c.csv", "\r\n".join(row.replace(",", mark) for row in rows))
    table = load_classes(path, 2)
    assert table.names == ("sky", "car")
    assert table.colors.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_what_is_written_is_read_again(tmp_path):
    table = ClassTable(("wall", 'a "b", c', "straße"), palette(3))
    write_classes(tmp_path / "c.csv", table)
    again = load_classes(tmp_path / "c.csv", 3)
    assert again.names == table.names
    np.testing.assert_array_equal(again.colors, table.colors)


def test_without_a_file_150_classes_are_ade20k_and_others_are_numbered():
    ade20k = load_classes("", 150)
    assert (ade20k.names[0], ade20k.names[1], ade20k.names[149]) == ("wall", "building", "flag")
    assert ade20k.colors[[0, 149]].tolist() == [[120, 120, 120], [92, 0, 255]]
    assert len(np.unique(ade20k.colors, axis=0)) == 149  # road and skyscraper share one
    assert load_classes("", 2).names == ("class 1", "class 2")


def test_camvid_is_found_by_its_shipped_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = load_classes("data/camvid_classes.csv", 11)
    assert table.names[3] == "road"
    assert table.colors[10].tolist() == [0, 128, 192]


def test_the_old_class_list_is_readable_and_gets_colours():
    table = load_classes(DATA / "object150_info.csv", 150)
    assert table.names == load_classes("", 150).names
    assert len(np.unique(table.colors, axis=0)) == 150


def test_the_old_class_list_has_the_columns_that_others_read():
    with (DATA / "object150_info.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 150
    assert rows[1] == {
        "Idx": "2",
        "Ratio": "0.1072",
        "Train": "6046",
        "Val": "612",
        "Stuff": "1",
        "Name": "building;edifice",
    }


def test_the_old_palette_file_holds_the_same_colours():
    content = (DATA / "color150.mat").read_bytes()
    assert b"colors" in content
    assert load_classes("", 150).colors.T.tobytes() in content  # a .mat file stores column by column


def test_made_up_colours_are_distinct_and_not_black():
    colors = palette(5000)
    assert len(np.unique(colors, axis=0)) == 5000
    assert colors.any(axis=1).all()
    np.testing.assert_array_equal(palette(7), colors[:7])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column index, name; its header should be index,name,red,green,blue"),
        ("index,name,red\n1,a,3\n", "has no column green, blue"),
        ("index,name\n1,a\n", "names 1 classes, but DATASET.num_class is 2. Index 2 is missing."),
        ("index,name\n1,a\n2,b\n3,c\n", "names 3 classes, but DATASET.num_class is 2. It needs"),
        ("index,name\n0,a\n2,b\n", "Index 1 is missing. It needs a row for each index from 0 to 1."),
        ("index,name\n1,a\n1,b\n", "row 3 repeats index 1"),
        (
            "index,name\n1,a\nx,\n2\n3,\n",
            'row 3 has index "x", which is not a whole number of 0 or more; row 4 has 1 cells',
        ),
        ("index,name,red,green,blue\n1,a,0,0,256\n", 'row 2 has the colour value "256"'),
        ("index,name,red,green,blue\n" + "1,a,-1,0,0\n" * 5, "; ... and 2 more."),
    ],
)
def test_a_table_that_does_not_fit_says_why(tmp_path, text, message):
    path = write(tmp_path / "c.csv", text)
    with pytest.raises(UserError) as caught:
        load_classes(path, 2)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_other_encodings_and_missing_files_are_named(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes(b"index,name\n1,stra\xdfe\n")
    with pytest.raises(UserError, match=r"c\.csv is not a CSV file in UTF-8"):
        load_classes(path, 1)
    with pytest.raises(UserError, match=r"none\.csv"):
        load_classes("none.csv", 1)


def test_a_table_may_count_from_0(tmp_path):
    table = load_classes(write(tmp_path / "c.csv", "index,name,red,green,blue\n1,b,4,5,6\n0,a,1,2,3\n"), 2)
    assert table.names == ("a", "b")
    assert table.colors.tolist() == [[1, 2, 3], [4, 5, 6]]
