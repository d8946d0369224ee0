"""Tar files that WebDataset can read, written as a whole or not at all."""

import json
import tarfile

import pytest

from mit_semseg.data.shards import content_of, member_of


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def members(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_bytes_are_copied_and_the_list_keeps_its_order_and_all_its_keys(own_tiny, call, tmp_path):
    old = own_tiny.records("training")
    old[1]["note"] = "é"
    (own_tiny.folder / "training.odgt").write_text("".join(json.dumps(record) + "\n" for record in old))
    done = call("data", "shards", own_tiny.folder / "training.odgt", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    new = records(tmp_path / "out" / "training.odgt")
    for before, after in zip(old, new, strict=True):
        for key in ("fpath_img", "fpath_segm"):
            assert content_of(tmp_path / "out" / after[key]) == (own_tiny.folder / before[key]).read_bytes()
        paths = ("fpath_img", "fpath_segm")
        assert {k: v for k, v in before.items() if k not in paths} == {
            k: v for k, v in after.items() if k not in paths
        }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "training-000000.tar",
        "training.odgt",
    ]
    assert f"DATASET.root_dataset {tmp_path / 'out'}" in done.out


def test_an_image_and_its_label_are_neighbours_with_one_key_without_dots(own_tiny, call, tmp_path):
    folder = own_tiny.folder
    (folder / "a.b").mkdir()
    (folder / "training" / "0.png").replace(folder / "a.b" / "x.y.png")
    label = {"fpath_segm": "a.b/x.y.png"}
    lines = [
        {"fpath_img": "training/0.jpg", **label},
        {"fpath_img": "a.b/x.y.png", **label},
        {"fpath_img": "a.b/x.y.png", **label},
        {"fpath_img": str(folder / "training" / "1.jpg"), **label},
        {"fpath_img": "training/2.jpg"},
    ]
    (folder / "all.odgt").write_text("".join(json.dumps(record) + "\n" for record in lines))
    assert call("data", "shards", folder / "all.odgt", tmp_path / "out").code == 0
    own = "/".join((folder / "training" / "1").parts[1:]).replace(".", "_")
    assert list(members(tmp_path / "out" / "all-000000.tar")) == [
        *("training/0.jpg", "training/0.png", "a_b/x_y.png", "a_b/x_y.seg.png"),
        *("a_b/x_y_2.png", "a_b/x_y_2.seg.png", f"{own}.jpg", f"{own}.png", "training/2.jpg"),
    ]


def test_long_and_foreign_names_are_found_again(own_tiny, call, tmp_path):
    name = "ö" + "x" * 120
    (own_tiny.folder / "training" / "0.jpg").replace(own_tiny.folder / f"{name}.jpg")
    (own_tiny.folder / "one.odgt").write_text(json.dumps({"fpath_img": f"{name}.jpg"}))
    assert call("data", "shards", own_tiny.folder / "one.odgt", tmp_path / "out").code == 0
    found = tmp_path / "out" / records(tmp_path / "out" / "one.odgt")[0]["fpath_img"]
    assert content_of(found) == (own_tiny.folder / f"{name}.jpg").read_bytes()


def test_a_shard_ends_after_the_size_and_equal_files_give_equal_shards(own_tiny, call, tmp_path):
    big = own_tiny.folder / "training" / "0.jpg"
    big.write_bytes(big.read_bytes() + bytes(10**6))
    for out in ("one", "two"):
        list_file = own_tiny.folder / "training.odgt"
        done = call("data", "shards", list_file, tmp_path / out, "--size", "1")
        assert (done.code, done.err) == (0, "")
    shards = ["training-000000.tar", "training-000001.tar"]
    assert [len(members(tmp_path / "one" / name)) for name in shards] == [2, 10]
    for name in (*shards, "training.odgt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_list_of_shards_can_be_written_into_other_shards(tiny, call, tmp_path):
    call("data", "shards", tiny.folder / "training.odgt", tmp_path / "one")
    assert call("data", "shards", tmp_path / "one" / "training.odgt", tmp_path / "two").code == 0
    for name in ("training-000000.tar", "training.odgt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_unusable_file_is_named_and_leaves_nothing(own_tiny, call, tmp_path):
    (own_tiny.folder / "training" / "3.png").unlink()
    done = call("data", "shards", own_tiny.folder / "training.odgt", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert "training/3.png does not exist" in done.err
    assert "See line 4 of" in done.err
    assert not (tmp_path / "out").exists()


def test_an_empty_file_is_refused(own_tiny, call, tmp_path):
    (own_tiny.folder / "training" / "3.png").write_bytes(b"")
    done = call("data", "shards", own_tiny.folder / "training.odgt", tmp_path / "out")
    assert done.code == 2
    assert "training/3.png is empty" in done.err


def test_shards_that_another_list_may_use_are_not_replaced(tiny, call, tmp_path):
    words = ("data", "shards", tiny.folder / "training.odgt", tmp_path / "out")
    call(*words)
    before = (tmp_path / "out" / "training-000000.tar").read_bytes()
    done = call(*words)
    assert done.code == 2
    assert "training.odgt exists" in done.err
    (tmp_path / "out" / "training.odgt").unlink()
    assert "training-000000.tar exists" in call(*words).err
    assert (tmp_path / "out" / "training-000000.tar").read_bytes() == before


def test_what_a_killed_run_left_is_removed(tiny, call, tmp_path):
    left = tmp_path / "out" / ".training.shards.part"
    left.mkdir(parents=True)
    (left / "training-000007.tar").write_bytes(b"half")
    assert call("data", "shards", tiny.folder / "training.odgt", tmp_path / "out").code == 0
    assert not left.exists()
    assert not (tmp_path / "out" / "training-000007.tar").exists()


def test_windows_of_scenes_are_refused(tiny, call, tmp_path):
    line = {"fpath_img": "a.tif", "fpath_segm": "b.tif", "width": 8, "height": 8, "left": 0, "top": 0}
    (tmp_path / "windows.odgt").write_text(json.dumps(line))
    done = call("data", "shards", tmp_path / "windows.odgt", tmp_path / "out")
    assert done.code == 2
    assert "names windows of scenes" in done.err


def test_data_check_reads_shards_and_names_a_damaged_one(tiny, call, tmp_path):
    out = tmp_path / "out"
    call("data", "shards", tiny.folder / "training.odgt", out)
    from_files = call("data", "check", tiny.folder / "training.odgt", "--workers", "0")
    from_shards = call("data", "check", out / "training.odgt", "--workers", "0")
    assert from_files.code == from_shards.code == 0
    last = member_of(out / records(out / "training.odgt")[-1]["fpath_segm"])
    with last.shard.open("r+b") as file:
        file.truncate(last.offset + 3)
    done = call("data", "check", out / "training.odgt", "--workers", "0")
    assert done.code == 1
    assert "is truncated: it has" in done.out


@pytest.mark.parametrize("size", ["0", "-1", "big"])
def test_a_size_is_a_whole_number_of_megabytes(call, size):
    done = call("data", "shards", "a.odgt", "out", "--size", size)
    assert done.code == 2
    assert "whole number of megabytes" in done.err
