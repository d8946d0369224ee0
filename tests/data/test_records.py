import json
import pickle
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import FORKS

from mit_semseg.data.records import Record, read_records
from mit_semseg.errors import UserError


def line(k, **changes):
    return {"fpath_img": f"i/{k}.jpg", "fpath_segm": f"a/{k}.png", "width": 40 + k, "height": 50, **changes}


def write(path, entries):
    path.write_text("\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries))
    return path


def test_a_list_is_read_line_by_line_and_blank_lines_are_skipped(tmp_path):
    records = read_records(write(tmp_path / "t.odgt", [line(1), "", "  ", line(20, extra=[1])]))
    assert list(records) == [Record("i/1.jpg", "a/1.png", 41, 50), Record("i/20.jpg", "a/20.png", 60, 50)]
    assert records.is_portrait().tolist() == [True, False]
    assert records.line(1) == f"line 4 of {tmp_path / 't.odgt'}"


def test_dicts_and_paths_in_a_list_are_records_too():
    assert read_records([line(1)])[0] == Record("i/1.jpg", "a/1.png", 41, 50)
    paths = ["x.jpg", Path("y") / "z.png", {"fpath_img": "w.gif"}]
    assert [record.fpath_img for record in read_records(paths, required=("fpath_img",))] == [
        "x.jpg",
        "y/z.png",
        "w.gif",
    ]


def test_numbers_of_numpy_are_numbers():
    assert read_records([line(1, width=np.int64(7))])[0].width == 7


@pytest.mark.parametrize("path", ["straße/日本 1.jpg", "\udcff.jpg", 'a "b"\\.jpg'])
def test_any_name_that_a_file_system_allows_survives(path):
    assert read_records([path], required=("fpath_img",))[0].fpath_img == path


def test_slices_are_what_lists_would_give(tmp_path):
    records = read_records(write(tmp_path / "t.odgt", [line(k) for k in range(10)]))
    assert records[4:][2:].line(0) == f"line 7 of {tmp_path / 't.odgt'}"
    assert read_records([line(1)]).line(0) == ""
    for part in (slice(3), slice(2, 7), slice(-2, None), slice(5, 5), slice(8, 99)):
        assert list(records[part]) == list(records)[part]
    assert records[-1] == records[9]
    with pytest.raises(IndexError):
        records[10]


def test_records_can_be_pickled():
    records = read_records([line(k) for k in range(3)])
    assert list(pickle.loads(pickle.dumps(records))) == list(records)


def test_a_record_costs_little_more_than_its_paths():
    records = read_records(line(k) for k in range(1000))
    paths = sum(len(record.fpath_img) + len(record.fpath_segm) for record in records)
    assert len(pickle.dumps(records)) < paths + 1000 * 40


def test_unusable_lines_are_collected_and_raised_once(tmp_path):
    bad = [
        {key: value for key, value in line(2).items() if key != "height"},
        line(3, width=0),
        line(4, height="480"),
        "{not json",
        "[1, 2]",
        line(7, fpath_img=""),
        line(8, fpath_segm=None),
    ]
    path = write(tmp_path / "training.odgt", [line(1), *bad])
    with pytest.raises(UserError) as caught:
        read_records(path)
    assert str(caught.value) == (
        f'{path}: 7 of 8 lines unusable: line 2 has no "height"; '
        'line 3 has 0 for "width", which is not a whole number of pixels above 0; '
        "line 4 has '480' for \"height\", which is not a whole number of pixels above 0; ... and 4 more."
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{not json", "line 1 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        ("[1, 2]", "line 1 is not a JSON object with the keys fpath_img, fpath_segm, width, height"),
        (line(1, width=12.5), "line 1 has 12.5 for"),
        (line(1, width=True), "line 1 has True for"),
        (line(1, height=-3), "line 1 has -3 for"),
        (line(1, height=2**40), "line 1 has 1099511627776 for"),
        (line(1, fpath_segm=5), 'line 1 has 5 for "fpath_segm", which is not a path'),
        (line(1, fpath_img="a\0b"), 'for "fpath_img", which is not a path'),
        ('{"fpath_img": "a.jpg", "width": 3, "fpath_img": "b.jpg"}', 'line 1 has two values for "fpath_img"'),
        (line(1, fpath_img="\ud800.jpg"), 'for "fpath_img", which is not a path'),
    ],
)
def test_each_kind_of_bad_line_says_what_is_wrong(tmp_path, entry, message):
    with pytest.raises(UserError) as caught:
        read_records(write(tmp_path / "x.odgt", [entry]))
    assert message in str(caught.value)


def test_a_list_that_is_not_utf8_says_so(tmp_path):
    path = tmp_path / "x.odgt"
    path.write_bytes(json.dumps(line(1)).encode() + b'\n{"fpath_img": "\xe4.jpg"}\n')
    with pytest.raises(UserError, match="1 of 2 lines unusable: line 2 is not UTF-8 text"):
        read_records(path)


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = tmp_path / "x.odgt"
    path.write_text(json.dumps(line(1)), encoding="utf-8-sig")
    assert len(read_records(path)) == 1


def test_missing_and_empty_lists_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.odgt does not exist"):
        read_records(tmp_path / "none.odgt")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_records(tmp_path)
    with pytest.raises(UserError, match=r"e\.odgt is empty"):
        read_records(write(tmp_path / "e.odgt", ["", " "]))
    with pytest.raises(UserError, match="the list of records is empty"):
        read_records([])


@pytest.mark.parametrize("odgt", [5, None, b"x.odgt", {"fpath_img": "a.jpg"}])
def test_something_else_than_a_list_is_a_programming_error(odgt):
    with pytest.raises(TypeError, match="odgt is a"):
        read_records(odgt)


@pytest.mark.parametrize("path", ["../../etc/passwd", "a/../../x", "..", "./../x", "a/b/../../../c.png"])
@pytest.mark.parametrize("key", ["fpath_img", "fpath_segm"])
def test_a_path_that_leaves_the_root_makes_its_line_unusable(tmp_path, path, key):
    odgt = write(tmp_path / "t.odgt", [line(1), line(2, **{key: path}), line(3), {"fpath_img": "x.jpg"}])
    with pytest.raises(UserError) as caught:
        read_records(odgt, inside_root=True)
    assert str(caught.value) == (
        f"{odgt}: 2 of 4 lines unusable: line 2 has '{path}' for \"{key}\", which leads out of the root "
        'folder; line 4 has no "fpath_segm".'
    )


@pytest.mark.parametrize("path", ["a/../b.jpg", "..a/b.jpg", "a../b.jpg", "a/..b", "/data/../b.jpg"])
def test_paths_that_stay_inside_or_are_absolute_are_fine(path):
    assert read_records([line(1, fpath_img=path)], inside_root=True)[0].fpath_img == path


def test_without_a_root_any_path_is_fine():
    assert read_records(["../x.jpg"], required=("fpath_img",))[0].fpath_img == "../x.jpg"


def test_unusable_lines_can_be_collected_instead_and_the_others_are_returned(tmp_path):
    path = write(tmp_path / "t.odgt", ["{not json", line(1), "", {"fpath_img": "x.jpg"}, line(5)])
    found = []
    records = read_records(path, on_unusable=lambda number, what: found.append((number, what)))
    assert found == [(1, "is not JSON"), (4, 'has no "fpath_segm"')]
    assert [records.number(index) for index in range(len(records))] == [2, 5]
    assert len(read_records(write(path, ["{"]), on_unusable=lambda number, what: None)) == 0


def test_optional_keys_are_read_where_they_are_and_checked():
    paths = {"fpath_img": "x.jpg", "fpath_segm": "x.png"}
    keys = {"required": tuple(paths), "optional": ("width", "height")}
    assert list(read_records([paths, {**paths, "width": 4, "height": 3}], **keys)) == [
        Record("x.jpg", "x.png"),
        Record("x.jpg", "x.png", 4, 3),
    ]
    with pytest.raises(UserError, match="record 1 has 0 for"):
        read_records([{**paths, "width": 0}], **keys)


def test_a_long_list_costs_little_more_memory_than_its_paths(tmp_path):
    path = tmp_path / "long.odgt"
    with path.open("w") as file:
        for k in range(100_000):
            file.write(json.dumps(line(k % 1000, fpath_img=f"images/training/ADE_train_{k:08}.jpg")) + "\n")
    # In a process of its own, whose peak is that of nothing else. 30 MB: 300 for a million.
    code = f"""
import resource
from mit_semseg.data.records import read_records
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
records = read_records({str(path)!r}, inside_root=True)
assert len(records) == 100_000
assert peak() - before < 30, f"{{peak() - before:.0f}} MB"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def share_of_own_memory(records, connection):
    """Reads all records; sends how many MB of this process's memory are its own, before and after."""

    def private():
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

    before = private()
    total = sum(records[index].width for index in range(len(records)))
    connection.send((before, private(), total))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("method", ["fork", FORKS])
def test_processes_share_the_records_instead_of_copying_them(method):
    records = read_records(line(k, fpath_img="x" * 1000) for k in range(30_000))  # 30 MB of paths
    context = torch.multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forking beside threads
        process = context.Process(target=share_of_own_memory, args=(records, theirs))
        process.start()
    assert ours.poll(60)
    before, after, total = ours.recv()
    process.join(60)
    assert total == sum(40 + k for k in range(30_000))
    assert after - before < 8
    # When it starts, a forked process owns little: no copy of 30 MB. The other one owns what it has imported.
    assert before < 15 or method == FORKS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            json.dumps([line(1), line(1)]),
            "seems to be a JSON array. A list has one JSON object per line, such as {",
        ),
        (json.dumps([line(1), line(1)], indent=1), "seems to be a JSON array."),
        (f"[\n{json.dumps(line(1))},\n{json.dumps(line(1))}\n]\n", "seems to be a JSON array."),
        (json.dumps(line(1), indent=1), "seems to hold JSON over several lines."),
        (f"{json.dumps(line(1))},\n{json.dumps(line(1))}\n", "has a comma after its first record."),
        (f"{line(1)}\n", "seems to hold dicts as Python prints them."),
        ("image;label\na.jpg;a.png\n", "seems to be a table, separated by semicolons."),
        ("a.jpg,a.png\n", "seems to be a table, separated by commas."),
        ("a b/1.jpg\na b/2.jpg\n", "seems to be a list of paths."),
        (json.dumps(line(1)).encode("utf-16"), "seems to be text in UTF-16. Save it as UTF-8."),
        (json.dumps(line(1)).encode("utf-16-le"), "seems to be text in UTF-16. Save it as UTF-8."),
    ],
)
def test_a_list_in_another_form_is_named_with_what_to_do(tmp_path, content, says):
    path = tmp_path / "x.odgt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for options in ({}, {"on_unusable": lambda *_: None}):
        with pytest.raises(UserError) as error:
            read_records(path, **options)
        assert str(error.value).startswith(f"{path} {says}")


def test_the_command_that_rewrites_an_array_works(tmp_path):
    path = tmp_path / "a b.odgt"
    path.write_text(json.dumps([line(1), line(1)], indent=1))
    with pytest.raises(UserError) as error:
        read_records(path)
    command = str(error.value).partition("To rewrite it: ")[2]
    subprocess.run(
        command.replace("python", shlex.quote(sys.executable)), shell=True, check=True, cwd=tmp_path
    )
    assert read_records(tmp_path / "new.odgt").as_dicts() == [line(1), line(1)]
