import pytest
from PIL import Image, UnidentifiedImageError

from mit_semseg.data.files import IMAGE_EXTENSIONS, counted, find_recursive, is_video, naming
from mit_semseg.errors import UserError


def test_find_recursive_takes_one_extension_in_any_case(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.jpg", "sub/a.JPG", "c.png"):
        (tmp_path / name).touch()
    assert find_recursive(tmp_path) == [str(tmp_path / "b.jpg"), str(tmp_path / "sub/a.JPG")]
    assert find_recursive(str(tmp_path), ext=".png") == [str(tmp_path / "c.png")]


def test_videos_are_known_by_their_extension_in_any_case():
    assert is_video("a/b.MP4")
    assert not any(map(is_video, ("a.txt", "mp4", "a.mp4/b", "a.jpg")))


def test_a_file_that_disappears_while_it_is_read_is_still_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()

    def read():
        path.unlink()
        raise UnidentifiedImageError

    with pytest.raises(UserError, match=r"a\.jpg is not an image that Pillow can read\.$"), naming(path):
        read()


def test_files_are_counted_by_their_kinds():
    files = ["a.HEIC", "b/c.heic", "x.mp4", "no extension", "y.MP4", "z.mp4", "notes.txt"]
    assert counted(files, lambda kind, count: f"name {count}" if kind == ".mp4" else "") == (
        "3 .mp4 (name 3), 2 .heic (pip install pillow-heif), 1 without extension, 1 .txt"
    )
    many = counted(f"{k}.t{k}" for k in range(11))
    assert many.endswith("1 .t5, 1 .t6, 3 of 3 other kinds")


def test_a_broken_link_is_named_with_its_target(tmp_path):
    (tmp_path / "a.jpg").symlink_to("gone/a.jpg")
    says = r"a\.jpg is a link to gone/a\.jpg, which does not exist\.$"
    with pytest.raises(UserError, match=says), naming(tmp_path / "a.jpg"):
        (tmp_path / "a.jpg").open()


@pytest.mark.skipif(".heic" in IMAGE_EXTENSIONS, reason="pillow-heif reads them")
def test_a_photo_of_a_phone_under_another_extension_is_recognized(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x28ftypheic\0\0\0\0mif1")
    says = r"a\.jpg is a HEIF image\. Pillow reads these with another package: pip install pillow-heif$"
    with pytest.raises(UserError, match=says), naming(tmp_path / "a.jpg"):
        Image.open(tmp_path / "a.jpg")
