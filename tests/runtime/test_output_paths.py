from pathlib import Path

import pytest

from mit_semseg.runtime import output_paths as module
from mit_semseg.runtime.files import replacing
from mit_semseg.runtime.output_paths import Wanted, other_names, output_paths, plain_name
from mit_semseg.runtime.paths import Resolver

OUT = Path("out")


def names(images, asked, folder=OUT):
    return [path.as_posix() for path in output_paths(images, asked, folder)]


def test_a_picture_has_the_name_of_its_image():
    assert names(["in/a.jpg"], ["in/a.jpg"]) == ["out/a.png"]


def test_links_that_lead_to_themselves_are_names_like_others(tmp_path):
    (tmp_path / "a.jpg").symlink_to("a.jpg")
    (tmp_path / "a.png").symlink_to("a.png")
    assert names([str(tmp_path / "a.jpg"), str(tmp_path / "a.png")], [str(tmp_path)], tmp_path) == [
        f"{tmp_path}/a.jpg.png",
        f"{tmp_path}/a.png.png",
    ]


def test_a_picture_of_a_searched_folder_keeps_its_subfolder():
    assert names(["in/a.jpg", "in/b/a.jpg"], ["in"]) == ["out/a.png", "out/b/a.png"]
    assert names(["a.jpg", "b/a.jpg"], ["."]) == ["out/a.png", "out/b/a.png"]
    assert names(["../in/b/a.jpg"], [".."]) == ["out/in/b/a.png"]


def test_names_that_differ_in_their_extension_alone_keep_it():
    assert names(["in/a.jpg", "in/a.png"], ["in"]) == ["out/a.jpg.png", "out/a.png.png"]


@pytest.mark.parametrize(
    ("images", "asked"),
    [
        (["p/a.jpg", "q/a.jpg"], ["p/a.jpg", "q/a.jpg"]),
        (["p/a.jpg", "q/a.jpg"], ["p", "q"]),
        (["p/a.jpg", "q/a.jpg", "r/a.jpg", "r/a.jpg.jpg"], ["p", "q", "r"]),
        (["p/a.jpg", "p/a.png", "q/a.jpg.png"], ["p", "q"]),
        (["p/a.jpg", "p/a_segmented.jpg", "q/a.jpg", "q/a_segmented.jpg"], ["p", "q"]),
    ],
)
def test_no_two_images_share_a_picture(images, asked):
    outputs = names(images, asked)
    assert len(set(outputs)) == len(images)
    assert all(path.endswith(".png") for path in outputs)


def test_no_picture_takes_the_place_of_an_image(tmp_path):
    images = [str(tmp_path / name) for name in ("a.png", "a_segmented.png", "b.jpg", "b.jpg.png", "b.png")]
    outputs = output_paths(images, [str(tmp_path)], tmp_path)
    assert len(set(outputs)) == len(images)
    assert not set(map(str, outputs)) & set(images)
    assert outputs[0].name == "a_segmented_2.png"


def test_an_image_is_known_under_another_path_to_it(tmp_path, monkeypatch):
    """The output folder is named absolutely, the images relatively: still no image is overwritten."""
    monkeypatch.chdir(tmp_path)
    assert output_paths(["a.png"], ["a.png"], tmp_path) == [tmp_path / "a_segmented.png"]


def test_an_image_behind_a_link_is_known_too(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "results").symlink_to(tmp_path / "photos")
    image = str(tmp_path / "photos" / "a.png")
    assert output_paths([image], [image], tmp_path / "results")[0].name == "a_segmented.png"


def placed(inputs, *suffixes, folder=OUT, taken=()):
    return placed_below(inputs, inputs, *suffixes, folder=folder, taken=taken)


def placed_below(inputs, relative, *suffixes, folder=OUT, taken=()):
    """The paths of the outputs of each input."""
    pairs = [(path, suffix) for path in relative for suffix in suffixes]
    wanted = [Wanted(k, *pair) for k, pair in enumerate(pairs)]
    others = other_names(inputs, lambda: wanted, folder, lambda path: Path(path) in taken)
    names = [others.get(k) or plain_name(*pair) for k, pair in enumerate(pairs)]
    paths = [(folder / name).as_posix() for name in names]
    return [paths[k : k + len(suffixes)] for k in range(0, len(paths), len(suffixes))]


def test_every_output_of_an_image_has_its_own_name():
    assert placed(["a.jpg", "b/a.jpg"], ".png", "_labels.png") == [
        ["out/a.png", "out/a_labels.png"],
        ["out/b/a.png", "out/b/a_labels.png"],
    ]


def test_the_output_of_one_image_does_not_take_the_place_of_anothers():
    """The overlay of ``a`` has the name that the picture of ``a_overlay`` would have."""
    assert placed(["a.jpg", "a_overlay.jpg"], ".png", "_overlay.png") == [
        ["out/a.png", "out/a.jpg_overlay.png"],
        ["out/a_overlay.jpg.png", "out/a_overlay_overlay.png"],
    ]


def test_paths_that_are_taken_are_left_alone(tmp_path):
    taken = [tmp_path / "a.png", tmp_path / "a_segmented.png"]
    for path in taken:
        path.touch()
    assert placed(["a.jpg"], ".png", folder=tmp_path, taken=taken) == [[f"{tmp_path}/a_segmented_2.png"]]


def test_a_name_that_nobody_else_wants_does_not_depend_on_the_order():
    """``a.jpg.png`` is the plain name for ``a.jpg.jpg``, and the second choice for ``a.jpg``."""
    for inputs in (["a.jpg", "a.png", "a.jpg.jpg"], ["a.jpg.jpg", "a.png", "a.jpg"]):
        found = dict(zip(inputs, (path for (path,) in placed(inputs, ".png")), strict=True))
        assert found["a.jpg.jpg"] == "out/a.jpg.png"
        assert found["a.png"] == "out/a.png.png"
        assert found["a.jpg"] == "out/a.jpg_segmented.png"


@pytest.mark.parametrize("name", ["a", "a" * 250])
def test_the_work_grows_with_the_number_of_images_even_if_all_have_one_name(name, monkeypatch):
    asked = []

    class Counting(Resolver):
        def __call__(self, path):
            asked.append(path)
            return super().__call__(path)

    monkeypatch.setattr(module, "Resolver", Counting)
    inputs = [f"{number}/{name}{number % 5}.jpg" for number in range(300)]
    below = [path.split("/")[1] for path in inputs]
    paths = [path for (path,) in placed_below(inputs, below, ".png")]
    assert len(set(paths)) == len(inputs)
    assert len(inputs) < len(asked) < 5 * len(inputs)


def test_names_too_long_for_the_file_system_are_cut_and_still_differ(tmp_path):
    inputs = ["ä" * 125 + end for end in ("1.jpg", "2.jpg")]
    ((first,), (second,)) = placed(inputs, "_overlay.png", folder=tmp_path)
    assert first != second
    for name in (first, second):
        with replacing(name) as file:
            file.write(b"fits")
