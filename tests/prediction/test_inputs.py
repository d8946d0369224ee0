import io
from pathlib import Path

import pytest

from mit_semseg.errors import UserError
from mit_semseg.prediction.inputs import describe_unread, find_inputs


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
    return [(each.path, each.kind, each.relative.as_posix()) for each in found.inputs]


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
        ("empty", r"^No image in empty\. It holds 1 \.txt\. Images have one of these extensions: \.avif "),
        (
            "films",
            r"^No image in films\. It holds 1 \.mov \(name it to segment it\), 1 \.mp4 \(name it to segment "
            r"it\)\. A pattern such as 'films/\*\.mp4' names several videos\.",
        ),
        ("films/*.txt", r"^No image or video matches films/\*\.txt\. They have"),
        ("empty/*", r"^No image or video matches empty/\*, but 1 \.txt\. They have"),
        ("**/*.gif", r"^No image or video matches \*\*/\*\.gif\. They have"),
        ("-", r"^The list on standard input is empty\. It has to name at least one image\.$"),
    ):
        with pytest.raises(UserError, match=says):
            find(word)
    with pytest.raises(UserError, match="standard input, but that is closed"):
        find_inputs(["-"], None)


@pytest.fixture
def linked(files):
    """``p`` has a photo of its own, one in a linked folder, and links to folders above it."""
    files("p/near.png", "disk/far.png")
    Path("p/day2").symlink_to("../disk")
    Path("p/up").symlink_to("..")
    Path("disk/back").symlink_to("../p")


@pytest.mark.parametrize(
    "words", [("p",), ("p/**/*.png",), ("p/**",), ("p/*",), ("**/p", "p"), ("p", "disk", "p/day2")]
)
def test_linked_folders_are_searched_once_in_every_way_to_name_a_folder(linked, words):
    found = find(*words)
    assert sorted(relative.split("/")[-1] for *_, relative in found) == ["far.png", "near.png"]
    assert {path for path, *_ in found} <= {"p/near.png", "p/day2/far.png", "disk/far.png"}


def test_a_pattern_that_leads_up_again_and_again_ends(files):
    """Two links would double what is searched at each of the 40 levels that a system follows."""
    files("p/a.png", "p/q/b.png")
    for name in ("p/one", "p/q/two"):
        Path(name).symlink_to(Path.cwd())
    assert [path for path, *_ in find("p/**/*.png")] == ["p/a.png", "p/q/b.png"]


def test_two_links_to_a_file_are_two_inputs(files):
    files("store/123")
    Path("p").mkdir()
    for name in ("p/a.png", "p/b.png"):
        Path(name).symlink_to("../store/123")
    assert [path for path, *_ in find("p", "p/../p/a.png")] == ["p/a.png", "p/b.png"]


def test_all_that_a_folder_holds_besides_images_is_counted(files):
    files(
        "p/a.JPG",
        "p/b.heic",
        "p/c/d.HEIC",
        "p/c/e.mp4",
        "p/notes.txt",
        "p/.DS_Store",
        "p/._a.JPG",
        "p/Thumbs.db",
    )
    Path("p/up").symlink_to("..")
    found = find_inputs(["p"], None)
    assert len(found.inputs) == 1
    others = (
        "2 .heic (pip install pillow-heif), 1 .mp4 (name it to segment it), 1 .txt, "
        "1 link to a folder above (p/up)"
    )
    assert describe_unread(found) == others
    assert describe_unread(find_inputs(["p/*"], None)) == others
    both = find_inputs(["p", "p/c/e.mp4", "p/b.heic"], None)  # named by themselves
    assert describe_unread(both).startswith("1 .heic (pip install pillow-heif), 1 .txt,")


def test_a_link_to_a_drive_that_is_not_connected_is_a_problem(files):
    files("p/a.png")
    Path("p/day2").symlink_to("/mnt/gone")
    problem = "p/day2 is a link to /mnt/gone, which does not exist."
    assert find_inputs(["p"], None).problems == [problem]
    assert find_inputs(["p/*"], None).problems == [problem]
    Path("p/a.png").unlink()
    for word in ("p", "p/*"):
        with pytest.raises(UserError, match=rf"^No image .* {problem}"):
            find(word)


def test_a_folder_of_a_list_without_images_does_not_stop_the_others(files):
    files("p/a.png", "q/notes.txt")
    listed = io.TextIOWrapper(io.BytesIO(b"q\np/a.png"))
    found = find_inputs(["-"], listed)
    assert [each.path for each in found.inputs] == ["p/a.png"]
    assert found.problems[0].startswith("No image in q. It holds 1 .txt.")
