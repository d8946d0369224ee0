"""A file is replaced as a whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from mit_semseg.errors import UserError
from mit_semseg.runtime.files import replacing, write_together


def test_the_file_is_the_old_one_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_made(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b" / "c") as file:
        file.write(b"new")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with pytest.raises(UserError) as error, replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(error.value) == (
        f"{path} cannot be written: No space left on device. The folder is {tmp_path}. "
        "Make room there, or choose another folder."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.json").mkdir()
    message = r"scores.json cannot be written: Is a directory"
    with pytest.raises(UserError, match=message), replacing(tmp_path / "scores.json") as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "scores.json"]


def test_the_unfinished_file_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".scores.json.part").write_bytes(b"much more than the new one")
    with replacing(tmp_path / "scores.json") as file:
        file.write(b"new")
    assert (tmp_path / "scores.json").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def old_files(folder: Path) -> dict[Path, bytes]:
    files = {folder / name: b"old" for name in ("a", "b", "c")}
    for path, content in files.items():
        path.write_bytes(content)
    return files


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_files_that_belong_together_are_written_in_a_folder_that_is_made(tmp_path: Path) -> None:
    files = {tmp_path / "new" / name: name.encode() for name in ("a", "b")}
    write_together(files)
    assert contents(tmp_path / "new") == files


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_folder_in_place_of_one_file_leaves_all_as_they_were(name: str, tmp_path: Path) -> None:
    files = old_files(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"Is a directory.*Rename the folder {name} in it"):
        write_together(dict.fromkeys(files, b"new"))
    del files[tmp_path / name]
    assert contents(tmp_path) == files


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_disk_that_is_full_at_one_file_leaves_all_as_they_were(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = old_files(tmp_path)
    calls: list[int] = []

    def fill(handle: int) -> None:
        calls.append(handle)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(UserError, match=f"{'abc'[failing - 1]} cannot be written: No space left.*Make room"):
        write_together(dict.fromkeys(files, b"new"))
    assert contents(tmp_path) == files


def test_a_rename_that_is_refused_names_the_files_that_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, rename = old_files(tmp_path), Path.replace

    def refuse(part: Path, path: Path) -> Path:
        if path.name == "c":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return rename(part, path)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UserError, match=r"c cannot be written.*Already new, unlike the others: a, b\."):
        write_together(dict.fromkeys(files, b"new"))
    assert contents(tmp_path) == dict(zip(files, (b"new", b"new", b"old"), strict=True))
