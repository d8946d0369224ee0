from mit_semseg.data.files import find_recursive, is_image, is_video


def test_find_recursive_takes_one_extension_in_any_case(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.jpg", "sub/a.JPG", "c.png"):
        (tmp_path / name).touch()
    assert find_recursive(tmp_path) == [str(tmp_path / "b.jpg"), str(tmp_path / "sub/a.JPG")]
    assert find_recursive(str(tmp_path), ext=".png") == [str(tmp_path / "c.png")]


def test_images_and_videos_are_known_by_their_extension_in_any_case():
    assert is_image("a/b.JPG")
    assert is_video("a/b.MP4")
    assert not any(check(name) for check in (is_image, is_video) for name in ("a.txt", "jpg", "a.jpg/b"))
