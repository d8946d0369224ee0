"""A file that is replaced as a whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from mit_semseg.atomic import replacing
from mit_semseg.errors import UserError


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


def test_what_a_killed_process_left_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / ".scores.json.part").write_bytes(b"much more than the new one")
    with replacing(tmp_path / "scores.json") as file:
        file.write(b"new")
    assert (tmp_path / "scores.json").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1
