"""The index of a long list: the same records, for as long as the list stays as it is."""

import errno
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from mit_semseg.data import record_index, record_lines
from mit_semseg.data.record_index import index_path
from mit_semseg.data.records import read_records
from mit_semseg.errors import UserError


@pytest.fixture(autouse=True)
def _every_list_is_long(monkeypatch):
    monkeypatch.setattr(record_index, "LEAST_BYTES", 1)


def write(path, count, first=0, **more):
    lines = [
        json.dumps(
            {"fpath_img": f"ö/{k}.jpg", "fpath_segm": f"a/{k}.png", "width": 5 + k, "height": 8, **more}
        )
        for k in range(first, first + count)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(params=[{}, {"left": 3, "top": 0}], ids=["images", "windows"])
def odgt(request, tmp_path):
    return write(tmp_path / "training.odgt", 9, **request.param)


@pytest.fixture
def parsed(monkeypatch):
    """The lines that have been parsed."""
    seen = []
    parse = record_lines.parse
    monkeypatch.setattr(record_lines, "parse", lambda line: seen.append(line) or parse(line))
    return seen


def content(records):
    lines = [records.line(k) for k in range(len(records))]
    return list(records), lines, records.is_portrait().tolist(), records.has_windows()


def test_the_second_reading_takes_the_records_from_the_index(odgt, parsed, monkeypatch):
    indexed = content(read_records(odgt))
    assert len(parsed) == 9
    assert content(read_records(odgt)) == indexed
    assert len(parsed) == 9
    assert sorted(odgt.parent.iterdir()) == [index_path(odgt), odgt]
    monkeypatch.setattr(record_index, "LEAST_BYTES", 10**9)
    assert content(read_records(odgt)) == indexed
    assert len(parsed) == 18


def test_a_short_list_gets_no_index(odgt, monkeypatch):
    monkeypatch.setattr(record_index, "LEAST_BYTES", 10**6)
    read_records(odgt)
    assert list(odgt.parent.iterdir()) == [odgt]


def test_another_list_or_other_rules_are_not_taken_from_the_index(odgt, parsed):
    read_records(odgt)
    assert len(read_records(odgt, required=("fpath_img",))) == 9
    assert len(parsed) == 18
    write(odgt, 7, first=20)
    assert [record.width for record in read_records(odgt, required=("fpath_img", "width"))][:2] == [25, 26]
    assert len(parsed) == 25


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.6, 0.99])
def test_a_damaged_index_is_written_again(odgt, parsed, share):
    wanted = content(read_records(odgt))
    index = index_path(odgt)
    whole = index.read_bytes()
    index.write_bytes(whole[: int(len(whole) * share)])
    assert content(read_records(odgt)) == wanted
    assert index.read_bytes() == whole
    index.write_bytes(b"\xff\x00" * 50)
    assert content(read_records(odgt)) == wanted
    assert len(parsed) == 27


def test_a_pickle_names_the_index_instead_of_holding_the_records(tmp_path):
    odgt = write(tmp_path / "a.odgt", 2000)
    read_records(odgt)
    records = read_records(odgt)
    assert len(pickle.dumps(records)) < 1000
    assert content(pickle.loads(pickle.dumps(records))) == content(records)
    few = records[10:20].take([3, 1])
    assert [record.width for record in few] == [18, 16]
    assert content(pickle.loads(pickle.dumps(few))) == content(few)


def test_a_folder_that_cannot_be_written_is_no_obstacle(odgt, monkeypatch, caplog):
    class Lock:
        def __init__(self, path):
            raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(record_index, "FileLock", Lock)
    caplog.set_level("INFO")
    assert len(read_records(odgt)) == 9
    assert "has no index, because its folder cannot be written" in caplog.text
    assert list(odgt.parent.iterdir()) == [odgt]


def test_a_list_with_an_unusable_line_is_refused_each_time(odgt):
    odgt.write_text(odgt.read_text(encoding="utf-8") + '\n{"fpath_img": 5}\n', encoding="utf-8")
    for _ in range(2):
        with pytest.raises(UserError, match="1 of 10 lines unusable: line 10 has no"):
            read_records(odgt)
    assert not index_path(odgt).exists()


def test_of_several_readers_one_reads_the_list(odgt, parsed):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: content(read_records(odgt)), range(4)))
    assert found == [found[0]] * 4
    assert len(parsed) == 9
