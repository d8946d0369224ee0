"""`~` and variables in paths, and names that only look like them."""

import os
from pathlib import Path

import pytest

from mit_semseg.errors import UserError
from mit_semseg.runtime.paths import PathError, Resolver, expand, expand_argument, resolved


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data/of mine")
    monkeypatch.setenv("PART", "x/y")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOT_SET", raising=False)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("", ""),
        ("auto", "auto"),
        ("~", "/home/me"),
        ("~/run", "/home/me/run"),
        ("~/photos/*.jpg", "/home/me/photos/*.jpg"),
        ("$DATA/list.odgt", "/data/of mine/list.odgt"),
        ("${DATA}/$PART/**/*.png", "/data/of mine/x/y/**/*.png"),
        ("a/${PART}b", "a/x/yb"),
        ("~/$PART", "/home/me/x/y"),
        ("a/~/b", "a/~/b"),  # only the first ~ stands for a home
        ("./~/b", "./~/b"),
        ("a~", "a~"),
        ("cost$", "cost$"),
        ("$5", "$5"),
        ("package:efficientnet_lite0", "package:efficientnet_lite0"),
    ],
)
def test_paths_are_expanded_as_a_shell_does_it(path: str, wanted: str) -> None:
    assert expand(path) == wanted


def test_the_home_of_another_user_is_found() -> None:
    pwd = pytest.importorskip("pwd")
    user = pwd.getpwuid(os.getuid())
    assert expand(f"~{user.pw_name}/run") == f"{user.pw_dir}/run"


@pytest.mark.parametrize("name", ["~", "~me", "$DATA", "a$NOT_SET", "~$PART"])
def test_a_name_that_exists_is_kept_with_all_below_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert expand(name) == name
    assert expand(f"{name}/") == f"{name}/"
    assert expand(f"{name}/new/run") == f"{name}/new/run"
    assert expand(f"{name}/$PART") == f"{name}/x/y"
    assert expand(f"{tmp_path}/{name}/run") == f"{tmp_path}/{name}/run"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("$NOT_SET/a", "the environment variable NOT_SET is not set. Set it, or write the full path."),
        ("a/${NOT_SET}", "the environment variable NOT_SET is not set."),
        ("${}/a", "${} names no variable. Write the full path"),
        ("$EMPTY/a", "the environment variable EMPTY is empty."),
        (
            "~nobody-of-that-name/a",
            "no home folder is known for '~nobody-of-that-name'. Write the full path, or "
            "./~nobody-of-that-name/a for a name that begins with ~",
        ),
    ],
)
def test_what_cannot_be_expanded_is_refused_with_its_name(path: str, reason: str) -> None:
    with pytest.raises(PathError, match=r"^but ") as error:
        expand(path)
    assert reason in str(error.value)
    with pytest.raises(UserError) as refused:
        expand_argument(Path(path), "--root")
    assert str(refused.value) == f"--root is {path!r}, {error.value}."


def test_the_advice_for_a_new_name_with_a_tilde_works() -> None:
    assert expand("./~nobody-of-that-name/a") == "./~nobody-of-that-name/a"


def test_many_paths_are_resolved_like_one(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "real" / "file.txt").write_text("x")
    (tmp_path / "folder").symlink_to("real/below")
    (tmp_path / "file").symlink_to("folder/../file.txt")
    (tmp_path / "loop").symlink_to("loop")
    real = Resolver()
    names = (
        "real/file.txt",
        "folder/new.txt",
        "folder/../file.txt",
        "file",
        "loop",
        "loop/x",
        "folder/..",
        "folder/",
    )
    for name in (*names, ".", "", "..", "a.txt", "missing/a.txt", str(tmp_path / "file"), "/"):
        for _ in range(2):  # the second time, the folder is known
            assert real(name) == str(resolved(name)), name
