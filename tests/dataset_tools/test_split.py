"""Folds whose training and validation images come from different groups."""

import json
from pathlib import Path

import pytest

from mit_semseg.config import load_config
from mit_semseg.dataset_tools.check.sequences import sequence_of, shared_sequences


@pytest.fixture
def drives(tmp_path):
    """Two lists of 12 images of the drives a (5 images), b (4), c (2) and d (1)."""
    names = [
        f"{drive}_{frame:03}"
        for drive, count in zip("abcd", (5, 4, 2, 1), strict=True)
        for frame in range(count)
    ]
    records = [
        {"fpath_img": f"{name}.jpg", "fpath_segm": f"{name}.png", "width": 4, "height": 3, "note": "é"}
        for name in names
    ]
    lists = tmp_path / "one.odgt", tmp_path / "two.odgt"
    for path, part in zip(lists, (records[:7], records[6:]), strict=True):  # one image is in both
        path.write_text("".join(json.dumps(record) + "\n" for record in part))
    return lists


def images(path):
    return [json.loads(line)["fpath_img"] for line in Path(path).read_text().splitlines()]


def test_each_group_validates_in_one_fold_and_trains_in_all_others(call, drives, tmp_path):
    done = call("data", "split", *drives, "--by", r"(\w)_\d+", "--out", tmp_path / "folds")
    assert (done.code, done.err) == (0, "")
    everything = sorted({*images(drives[0]), *images(drives[1])})
    for number, drive in enumerate("abcd", 1):
        cfg = load_config(str(tmp_path / "folds" / f"fold_{number}" / "config.yaml"))
        training, validation = images(cfg.DATASET.list_train), images(cfg.DATASET.list_val)
        assert {name[0] for name in validation} == {drive}
        assert sorted(training + validation) == everything
        assert Path(cfg.DIR) == Path("ckpt", "folds", f"fold_{number}")
    assert "4 folds of 12 images in 4 groups" in done.out
    assert "fold_1       7 training      5 validation  a\n" in done.out


def test_fewer_folds_are_of_similar_size_and_keep_all_keys_of_a_line(call, drives, tmp_path):
    assert call("data", "split", *drives, "--by", "^.", "--out", tmp_path, "--folds", 2).code == 0
    groups = [{name[0] for name in images(tmp_path / f"fold_{k}" / "validation.odgt")} for k in (1, 2)]
    assert groups == [{"a", "d"}, {"b", "c"}]
    assert json.loads((tmp_path / "fold_1" / "training.odgt").read_text().splitlines()[0])["note"] == "é"


def test_the_lists_of_a_config_are_divided(call, tiny, tmp_path):
    done = call("data", "split", "--cfg", tiny.config, "--by", "training|validation", "--out", tmp_path)
    assert done.code == 0
    assert images(tmp_path / "fold_1" / "validation.odgt") == images(tiny.folder / "training.odgt")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--by", "[abc]_"], "--by '[abc]_' finds no group in 1 of 12 paths: d_000.jpg."),
        (["--by", "jpg"], "All 12 images belong to the group 'jpg', so none is left to train on."),
        (
            ["--by", "^.", "--folds", "5"],
            "--folds is 5, but --by '^.' finds 4 groups: a, b, c, ... and 1 more.",
        ),
        (["--by", "(a)(b)"], "'(a)(b)' has 2 groups; use one, and (?:...) for the others"),
        (["--by", "(a"], "'(a' is not a regular expression: missing )"),
        (["--by", "^.", "--folds", "1"], "'1' is not a whole number of at least 2"),
    ],
)
def test_what_cannot_be_divided_is_refused_and_nothing_is_written(call, drives, tmp_path, words, says):
    refused = call("data", "split", *drives, *words, "--out", tmp_path / "folds")
    assert refused.code == 2
    assert says in refused.err
    assert not (tmp_path / "folds").exists()


def test_a_frame_number_after_a_name_with_a_number_names_a_sequence():
    names = {
        "0006R0_f00930.jpg": "0006R0",
        "a/Seq05VD_f0.png": "Seq05VD",
        "seq01/000123.png": "seq01",
        "ADE_train_00000001.jpg": "",
        "2007_000032.jpg": "",
        "images/000000000139.jpg": "",
        "cat.jpg": "",
    }
    assert {path: sequence_of(path) for path in names} == names
    training, validation = (
        ["t1_1.png", "t1_2.png", "t2_1.png"],
        ["t1_3.png", "t1_4.png", "t2_2.png", "t2_3.png"],
    )
    assert shared_sequences(training, validation) == {"t1": (2, 2)}


def test_check_notes_sequences_in_both_lists(call, own_tiny):
    for name in ("training", "validation"):
        records = own_tiny.records(name)
        for k, record in enumerate(records):
            new = f"{name}/drive1_{k}.jpg"
            (own_tiny.folder / record["fpath_img"]).rename(own_tiny.folder / new)
            record["fpath_img"] = new
        (own_tiny.folder / f"{name}.odgt").write_text(
            "".join(json.dumps(record) + "\n" for record in records)
        )
    done = call("data", "check", "--cfg", own_tiny.config, "--workers", 0)
    assert done.code == 0
    assert (
        "Training and validation may share sequences\n      drive1: 6 training and 3 validation images"
        in done.out
    )
    assert "mit-semseg data split" in done.out
