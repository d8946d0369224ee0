"""A search finds every file below a folder once, also through links."""

import os

import pytest

from mit_semseg.data.folders import is_ignored, search


@pytest.fixture
def place(tmp_path):
    """``place(file, ...)`` makes empty files; ``place(link=target)`` makes links."""

    def make(*files, **links):
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        for name, target in links.items():
            (tmp_path / name.replace("__", "/")).symlink_to(target)

    return make


def found(folder):
    return [os.path.relpath(file, folder) for file in search(folder).files]


def test_linked_folders_are_searched_under_the_path_of_the_link(place, tmp_path):
    place("photos/near.png", "disk/far.png", "disk/more/farther.png", photos__day2="../disk")
    assert found(tmp_path / "photos") == ["day2/far.png", "day2/more/farther.png", "near.png"]
    tree = search(tmp_path / "photos")
    assert [os.path.relpath(each, tmp_path) for each in tree.folders] == [
        *("photos", "photos/day2", "photos/day2/more")
    ]
    assert (tree.above, tree.problems) == ([], [])


def test_a_folder_is_searched_once_and_under_its_own_path_if_it_has_one_there(place, tmp_path):
    place("p/real/a.png", "p/real/b/c.png", p__also="real", p__inner="real/b")
    place("disk/d.png", p__one="../disk", p__two="../disk", disk__three=".")
    assert found(tmp_path / "p") == ["one/d.png", "real/a.png", "real/b/c.png"]


def test_links_to_a_folder_above_end(place, tmp_path):
    place("top/other.png", "top/p/a.png", "disk/x/far.png")
    place(
        top__p__loop=".",
        top__p__up="..",
        top__p__disk="../../disk/x",
        disk__x__up="..",
        disk__x__back="../../top",
    )
    tree = search(tmp_path / "top" / "p")
    assert [os.path.relpath(file, tmp_path / "top/p") for file in tree.files] == ["a.png", "disk/far.png"]
    above = [os.path.relpath(each, tmp_path / "top/p") for each in tree.above]
    assert above == ["up", "disk/back", "disk/up"]  # the loop leads to nothing else


def test_links_to_files_are_files_even_if_they_are_broken(place, tmp_path):
    place("p/a.png", p__b="a.png", p__c="gone.png")
    assert found(tmp_path / "p") == ["a.png", "b", "c"]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_searched(place, tmp_path, monkeypatch):
    place("p/a.png", "p/secret/b.png", "p/z/c.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # for root, all folders can be read
    tree = search(tmp_path / "p")
    assert [os.path.relpath(file, tmp_path / "p") for file in tree.files] == ["a.png", "z/c.png"]
    assert tree.problems == [f"{tmp_path / 'p/secret'} cannot be read: Permission denied."]


def test_names_that_are_not_text_are_found(tmp_path):
    (tmp_path / "\udcff").mkdir()
    (tmp_path / "\udcff" / "\udcfe.png").touch()
    assert found(tmp_path) == ["\udcff/\udcfe.png"]


@pytest.mark.parametrize("name", [".a.png", "._a.png", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN"])
def test_files_of_the_system_do_not_count(place, tmp_path, name):
    place("p/a.png", f"p/{name}/b.png")
    assert found(tmp_path / "p") == ["a.png"]
    assert is_ignored(name)
