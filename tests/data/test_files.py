import pytest

from mit_semseg.data.files import find_images, find_recursive
from mit_semseg.errors import UserError


def test_folders_are_searched_for_all_common_extensions_in_any_case(tmp_path):
    names = ["b.JPG", "a.png", "sub/deep/c.WebP", "sub/d.tiff", "e.jpeg"]
    for name in [*names, "notes.txt", ".hidden.jpg", ".git/x.png", "jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == sorted(str(tmp_path / name) for name in names)


def test_files_come_as_given_and_once(tmp_path):
    for name in ("z.jpg", "a.jpg", "odd.name"):
        (tmp_path / name).touch()
    z, a, odd = (str(tmp_path / name) for name in ("z.jpg", "a.jpg", "odd.name"))
    assert find_images([z, odd, z]) == [z, odd]
    assert find_images([z, tmp_path]) == [z, a]
    assert find_images(z) == [z]


def test_nothing_found_is_an_error_that_names_the_place(tmp_path):
    with pytest.raises(UserError, match=r"none\.jpg does not exist"):
        find_images(tmp_path / "none.jpg")
    with pytest.raises(UserError, match=r"No image in .* extensions count: \.avif"):
        find_images([tmp_path])
    with pytest.raises(UserError, match="an empty list"):
        find_images([])


def test_find_recursive_takes_one_extension_in_any_case(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.jpg", "sub/a.JPG", "c.png"):
        (tmp_path / name).touch()
    assert find_recursive(tmp_path) == [str(tmp_path / "b.jpg"), str(tmp_path / "sub/a.JPG")]
    assert find_recursive(str(tmp_path), ext=".png") == [str(tmp_path / "c.png")]
