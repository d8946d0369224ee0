"""Binary masks, and one mask file for each class."""

import numpy as np
import pytest
from PIL import Image

from mit_semseg.errors import UserError


@pytest.fixture
def source(tmp_path, make):
    for name in ("a", "b"):
        make.image(tmp_path / "s" / "images" / f"{name}.jpg")
    return tmp_path / "s"


def columns(*on):
    mask = np.zeros((4, 6), np.uint8)
    mask[:, list(on)] = 255
    return mask


@pytest.mark.parametrize("largest", [1, 255])
def test_binary_masks_of_any_encoding_have_two_classes(prepare, source, make, largest):
    make.label(source / "masks" / "a.png", columns(0, 1) // 255 * largest)
    Image.fromarray(columns(5) > 0).save(source / "masks" / "b.png")
    out = prepare("binary", source)
    assert out.classes.names == ("background", "foreground")
    assert (out.label("a") == [2, 2, 1, 1, 1, 1]).all()
    assert (out.label("b") == [1, 1, 1, 1, 1, 2]).all()
    out = prepare("binary", source, "--map", "0:2, 255:1")
    assert out.classes.names == ("foreground", "background")
    assert (out.label("a") == [1, 1, 2, 2, 2, 2]).all()


def test_soft_edges_are_refused_with_their_share(prepare, source, make):
    soft = columns(0, 1)
    soft[0, 2] = 90
    make.label(source / "masks" / "a.png", soft)
    make.label(source / "masks" / "b.png", columns())
    with pytest.raises(UserError, match=r"a.png has 4.17% of its pixels between 0 and 255") as raised:
        prepare("binary", source)
    assert '--map "0:1, 255:2, *:0"' in str(raised.value)
    out = prepare("folders", source, "--map", "0:1, 255:2, *:0")
    assert out.label("a")[0].tolist() == [2, 2, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "way",
    [
        "masks/{name}/{image}.png",
        "masks/{image}/{name}.png",
        "masks/{image}_{name}.png",
        "masks/{image}/{image}_{name}_mask.png",
    ],
)
def test_the_class_may_be_anywhere_in_the_path(prepare, source, make, way):
    for image, masks in {"a": {"sky": (0, 1, 2), "car": (2, 3)}, "b": {"sky": range(6)}}.items():
        for name, on in masks.items():
            make.label(source / way.format(image=image, name=name), columns(*on))
    out = prepare("class-masks", source)
    assert out.classes.names == ("car", "sky")
    assert (out.label("a") == [2, 2, 2, 1, 0, 0]).all()  # sky is later in the alphabet
    assert (out.label("b") == 2).all()
    smaller = prepare("class-masks", source, "--overlap", "smaller")
    assert (smaller.label("a") == [2, 2, 1, 1, 0, 0]).all()
    assert "Not used" not in out.said


def test_names_order_the_masks(prepare, source, make, tmp_path):
    make.label(source / "masks" / "a_sky.png", columns(0, 1, 2))
    make.label(source / "masks" / "a_car.png", columns(2, 3))
    make.label(source / "masks" / "b_sky.png", columns(2, 3))
    names = tmp_path / "names.txt"
    names.write_text("sky\ncar\n")
    out = prepare("class-masks", source, "--names", names)
    assert (out.label("a") == [1, 1, 2, 2, 0, 0]).all()


def test_masks_that_cannot_be_used_are_named(prepare, source, make):
    make.label(source / "masks" / "a_sky.png", columns(0) // 2)
    make.label(source / "masks" / "a_car.png", columns(0) + columns(1) // 3)
    make.label(source / "masks" / "b_car.png", np.ones((3, 6)))
    make.label(source / "masks" / "c_car.png", columns(0))
    make.image(source / "images" / "d.jpg")
    make.label(source / "masks" / "d_car.png", columns(0))
    make.label(source / "masks" / "d_sky.png", np.ones((3, 6)))
    with pytest.raises(UserError) as raised:
        prepare("class-masks", source)
    text = str(raised.value)
    assert "a_car.png has 16.67% of its pixels between 0 and 255, so it is not a mask of two values." in text
    assert "b.jpg has 6 x 4 pixels, but its shapes were drawn on 6 x 3." in text
    assert "d_sky.png has 6 x 3 pixels, but its image has 6 x 4. A mask must be as large as its" in text
    assert "c_car.png: the mask belongs to no image." in text


def test_the_size_of_a_mask_shows_which_view_of_a_turned_photo_it_fits(prepare, source, make):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        make.image(source / "images" / f"{name}.jpg", exif=exif)
    make.label(source / "masks" / "a_car.png", columns(0))
    make.label(source / "masks" / "a_sky.png", columns(1))
    make.label(source / "masks" / "b_sky.png", columns(1).T)
    out = prepare("class-masks", source)
    assert out.label("a").shape == (4, 6)
    assert out.label("b").shape == (6, 4)
    assert "1 image with an EXIF orientation was written upright" in out.said


def test_the_reading_of_binary_masks_is_said_and_inverted_ones_are_suspected(prepare, make, tmp_path):
    for name, values in (("dark", [0, 0, 0, 255]), ("bright", [255, 255, 255, 0])):
        source = tmp_path / name
        for number in range(3):
            make.image(source / "images" / f"{number}.jpg")
            make.label(source / "masks" / f"{number}.png", make.full(values))
        said = prepare("binary", source, out=tmp_path / f"out_{name}").said
        share = "75.0%" if name == "bright" else "25.0%"
        assert f"the other value is the class foreground, with {share} of the pixels." in said
        assert ('If the masks are inverted: --map "0:2, 255:1".' in said) == (name == "bright")


def test_masks_without_any_foreground_are_refused(prepare, make, tmp_path):
    source = tmp_path / "s"
    for number in range(3):
        make.image(source / "images" / f"{number}.jpg")
        make.label(source / "masks" / f"{number}.png", make.full([0]))
    with pytest.raises(UserError, match="no pixel of the 3 masks is of the foreground"):
        prepare("binary", source)
