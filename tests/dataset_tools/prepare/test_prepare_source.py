"""What is read from a source, and what is refused."""

import os
import subprocess
import tarfile
import zipfile

import pytest

from mit_semseg.cli import main
from mit_semseg.dataset_tools.prepare.source import SourceFolder, unpack_command
from mit_semseg.errors import UserError


@pytest.fixture
def pair(tmp_path, make):
    source = tmp_path / "my data"
    for name in ("a", "b"):
        make.image(source / "images" / f"{name}.jpg")
        make.label(source / "labels" / f"{name}.png", make.full([1, 2]))
    return source


def test_hidden_files_and_those_of_operating_systems_are_not_members(tmp_path):
    for name in ("a.png", "x/b.png", ".hidden.png", ".git/c.png", "__MACOSX/d.png", "x/Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x" / "up").symlink_to(tmp_path)
    assert SourceFolder(tmp_path).members == ["a.png", "x/b.png"]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_is_refused_with_the_command_that_unpacks_it(prepare, pair, tmp_path, capsys, kind):
    archive = tmp_path / f"the release.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(pair.rglob("*")):
                file.write(path, path.relative_to(pair))
    else:
        with tarfile.open(archive, f"w:{kind[4:]}") as file:
            file.add(pair, ".")
    assert main(["data", "prepare", "folders", str(archive), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{archive} is an archive. Unpack it and name the folder instead: ")
    assert not (tmp_path / "out").exists()
    command = said.strip().split("instead: ")[1]
    folder = tmp_path / "the release"
    if kind == "zip":  # unzip may not be installed
        assert command == f"unzip '{archive}' -d '{folder}'"
    else:
        subprocess.run(command, shell=True, check=True, timeout=60)
        assert len(prepare("folders", folder).records("training")) == 1


def test_archives_in_a_folder_without_the_dataset_are_named(prepare, tmp_path):
    source = tmp_path / "downloads"
    source.mkdir()
    (source / "leftImg8bit_trainvaltest.zip").write_bytes(b"x")
    with pytest.raises(UserError) as raised:
        prepare("cityscapes", source)
    archive = source / "leftImg8bit_trainvaltest.zip"
    assert str(raised.value).endswith(
        f"It holds: leftImg8bit_trainvaltest.zip. Archives are not read; unpack them first: "
        f"unzip {archive} -d {archive.with_suffix('')}"
    )


def test_other_files_are_no_archives_and_no_sources(prepare, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x")
    assert unpack_command(tmp_path / "a.txt") == ""
    with pytest.raises(UserError, match=r"a.txt is a file. Name the folder of the dataset\."):
        prepare("folders", tmp_path / "a.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("name", ["images/a.jpg", "labels/a.png"])
def test_a_pipe_is_a_problem_and_is_not_waited_for(prepare, pair, name):
    (pair / name).unlink()
    os.mkfifo(pair / name)
    with pytest.raises(UserError, match=rf"{name} is a pipe"):
        prepare("folders", pair)


def test_a_linked_folder_belongs_to_the_source(prepare, pair, make, tmp_path):
    for kind, write in (("images", make.image), ("labels", make.label)):
        args = () if kind == "images" else (make.full([1, 2]),)
        write(tmp_path / "disk" / kind / f"far{'.jpg' if kind == 'images' else '.png'}", *args)
        (pair / kind / "day2").symlink_to(f"../../disk/{kind}")
    out = prepare("folders", pair)
    assert sorted(out.names("training") + out.names("validation")) == ["a", "b", "far"]
    assert "Not used" not in out.said


def test_what_is_not_used_is_counted(prepare, pair, make):
    make.image(pair / "extra" / "c.jpg")
    for name in ("images/d.HEIC", "labels/notes.txt", "read me", "labels/._a.png"):
        (pair / name).write_bytes(b"x")
    (pair / "day2").symlink_to("/mnt/gone")
    (pair / "images" / "no label.jpg").write_bytes((pair / "images" / "a.jpg").read_bytes())
    out = prepare("folders", pair, "--skip-bad")
    assert (
        "Not used: 2 .jpg, 1 without extension, 1 .heic (pip install pillow-heif), 1 .txt.\n"
        "Broken links: day2.\n" in out.said
    )
    assert f"{pair / 'images' / 'no label.jpg'} has no label." in out.said


def test_a_folder_that_cannot_be_read_is_named(pair, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)  # for root, all folders can be read
    with pytest.raises(UserError, match=r"my data cannot be read: Permission denied\.$"):
        SourceFolder(pair).members  # noqa: B018
