"""New files are moved to their places in an order in which no list ever names a mixture."""

from pathlib import Path

import pytest

from mit_semseg.dataset_tools.prepare.staging import Staging, staging
from mit_semseg.errors import UserError

LISTS = ["training.odgt", "validation.odgt"]


def files(folder):
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def write(out, label, *, lists=LISTS):
    with staging(out) as staged:
        staged.write("labels/a.png", label.encode())
        for name in lists:
            staged.write(name, b"a.png")
        staged.commit(lists, [name for name in LISTS if name not in lists])


def test_a_list_whose_bytes_are_the_same_survives_new_labels_and_one_without_records_does_not(tmp_path):
    write(tmp_path / "out", "old")
    write(tmp_path / "out", "new", lists=LISTS[:1])
    assert files(tmp_path / "out") == {"a.png": "new", "training.odgt": "a.png"}


@pytest.mark.parametrize("name", ["labels/b.png", "config.yaml"])
def test_a_folder_in_the_way_of_a_file_is_found_before_anything_changes(tmp_path, name):
    out = tmp_path / "out"
    write(out, "old")
    (out / name).mkdir()
    with staging(out) as staged:
        for path in ("labels/a.png", name, *LISTS):
            staged.write(path, b"new")
        with pytest.raises(UserError, match=r"cannot be written: Is a directory"):
            staged.commit(LISTS)
    assert files(out) == {"a.png": "old", "training.odgt": "a.png", "validation.odgt": "a.png"}


def test_while_labels_are_replaced_there_is_no_list(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write(out, "old")

    def failing(path, target, replace=Path.replace):
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return replace(path, target)

    with staging(out) as staged:
        staged.write("labels/a.png", b"new")
        staged.write("labels/b.png", b"new")
        monkeypatch.setattr(Path, "replace", failing)
        with pytest.raises(UserError, match=r"b\.png cannot be written"):
            staged.commit(LISTS)
    assert files(out) == {"a.png": "new"}


def test_without_a_commit_everything_is_as_before(tmp_path):
    with staging(tmp_path / "new") as staged:
        staged.write("labels/a.png", b"x")
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "out", "old")
    with staging(tmp_path / "out") as staged:
        staged.write("labels/a.png", b"old")  # up to date
        staged.write("labels/b.png", b"x")
        assert [path.name for path in Staging(tmp_path / "out").folder.rglob("*.png")] == ["b.png"]
    assert files(tmp_path / "out") == {"a.png": "old", "training.odgt": "a.png", "validation.odgt": "a.png"}
