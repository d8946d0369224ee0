import io
from pathlib import Path

import pytest

from mit_semseg.engine.prediction.inputs import find_inputs
from mit_semseg.errors import UserError


@pytest.fixture
def files(tmp_path, monkeypatch):
    """``files(name, ...)`` makes empty files in the working folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


def find(*words, listed=b""):
    found = find_inputs(words, io.TextIOWrapper(io.BytesIO(listed)))
    return [(each.path, each.kind, each.below.as_posix()) for each in found]


def test_folders_are_searched_for_all_common_extensions_in_any_case(files):
    files("in/b.JPG", "in/sub/deep/c.WebP", "in/notes.txt", "in/.hidden.jpg", "in/.git/x.png", "in/d.mp4")
    assert find("in") == [("in/b.JPG", "image", "b.JPG"), ("in/sub/deep/c.WebP", "image", "sub/deep/c.WebP")]


def test_files_come_as_given_and_once(files):
    files("in/z.jpg", "in/a.jpg", "in/odd.name", "v.MOV")
    assert find("in/z.jpg", "in/odd.name", "in/z.jpg", "v.MOV") == [
        ("in/z.jpg", "image", "z.jpg"),
        ("in/odd.name", "image", "odd.name"),
        ("v.MOV", "video", "v.MOV"),
    ]
    assert [path for path, _, _ in find("in/z.jpg", "in")] == ["in/z.jpg", "in/a.jpg"]


def test_a_pattern_keeps_the_folders_below_its_fixed_part(files):
    files("p/a.jpg", "p/q/b.jpg", "p/q/c.mp4", "p/q/d.txt", "p/q/r/e.png")
    assert find("p/**/*.jpg") == [("p/a.jpg", "image", "a.jpg"), ("p/q/b.jpg", "image", "q/b.jpg")]
    assert find("p/q/*") == [
        ("p/q/b.jpg", "image", "b.jpg"),
        ("p/q/c.mp4", "video", "c.mp4"),
        ("p/q/r/e.png", "image", "r/e.png"),
    ]
    assert find("?/a.jpg") == [("p/a.jpg", "image", "p/a.jpg")]


def test_a_file_that_is_named_like_a_pattern_or_a_camera_is_a_file(files):
    files("a[1].jpg", "0")
    assert find("a[1].jpg", "0") == [("a[1].jpg", "image", "a[1].jpg"), ("0", "image", "0")]


def test_a_number_is_a_camera(files):
    assert find("0", "2") == [("0", "camera", "camera_0"), ("2", "camera", "camera_2")]


def test_a_list_on_standard_input(files):
    files("p/a.jpg", "p/b.jpg", "v.mp4", "c d.jpg")
    assert find("-", listed=b"v.mp4\r\n\nc d.jpg\np\ngone.jpg") == [
        ("v.mp4", "video", "v.mp4"),
        ("c d.jpg", "image", "c d.jpg"),
        ("p/a.jpg", "image", "a.jpg"),
        ("p/b.jpg", "image", "b.jpg"),
        ("gone.jpg", "image", "gone.jpg"),
    ]


def test_a_list_separated_by_zero_bytes_holds_any_name(files):
    files("a\nb.jpg", "\udcff.jpg")
    names = [path for path, _, _ in find("-", listed=b"a\nb.jpg\0\xff.jpg\0")]
    assert names == ["a\nb.jpg", "\udcff.jpg"]


def test_nothing_found_is_an_error_that_names_the_place(files):
    files("empty/notes.txt", "films/a.mp4", "films/b.mov")
    for word, says in (
        ("none.jpg", r"^none\.jpg does not exist\. Name an image or a folder of images\.$"),
        ("empty", r"^No image in empty\. Files with these extensions count: \.avif "),
        (
            "films",
            r"^No image in films\. There are 2 videos; name them, or a pattern such as 'films/\*\.mp4'",
        ),
        ("**/*.gif", r"^No image or video matches \*\*/\*\.gif\. Files with"),
        ("-", r"^An empty list of paths names no image\.$"),
    ):
        with pytest.raises(UserError, match=says):
            find(word)
    with pytest.raises(UserError, match="standard input, but that is closed"):
        find_inputs(["-"], None)
