"""Photos that a camera stored lying, with labels drawn on the upright view."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from mit_semseg.errors import UserError

SIZE = (24, 16)  # width, height of the upright view


@pytest.fixture
def photos(tmp_path, make):
    """``photos(6, "png")``: images stored with that orientation, whose upright view is (24, 16)."""

    def write(orientation, extension="jpg"):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = SIZE[::-1] if orientation >= 5 else SIZE
        for name in "ab":
            make.image(tmp_path / "s" / "images" / f"{name}.{extension}", stored, exif=exif)
            make.label(tmp_path / "s" / "labels" / f"{name}.png", make.full([1, 2], SIZE))
        return tmp_path / "s"

    return write


def written(out):
    record = (out.records("training") + out.records("validation"))[0]
    with Image.open(out.folder / record["fpath_img"]) as image:
        image.load()
    assert image.size == (record["width"], record["height"])
    return image


@pytest.mark.parametrize(("orientation", "extension"), [(5, "png"), (6, "jpg"), (7, "png"), (8, "webp")])
def test_images_whose_labels_fit_the_upright_view_are_written_upright(
    prepare, photos, orientation, extension
):
    source = photos(orientation, extension)
    out = prepare("folders", source)
    image = written(out)
    assert image.size == SIZE
    assert image.getexif().get(0x0112, 1) == 1
    upright = ImageOps.exif_transpose(Image.open(source / "images" / f"a.{extension}")).convert("RGB")
    most = 60 if extension == "jpg" else 0  # a JPEG of noise, encoded once more
    assert np.abs(np.asarray(image, int) - np.asarray(upright, int)).max() <= most
    assert "2 images with an EXIF orientation were written upright, because their labels fit" in out.said
    assert prepare("folders", source, "--images", "copy").said == out.said


def test_a_tiff_stays_as_it_is_because_pillow_turns_it(prepare, photos):
    out = prepare("folders", photos(6, "tif"))
    assert written(out).size == SIZE
    assert "EXIF" not in out.said


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_images_that_their_size_does_not_settle_are_named_and_turned_on_demand(prepare, photos, orientation):
    source = photos(orientation, "png")
    out = prepare("folders", source)
    assert (out.folder / out.records("training")[0]["fpath_img"]).is_symlink()
    assert "2 images carry an EXIF orientation, and the size does not show" in out.said
    assert "--upright turns such images" in out.said
    out = prepare("folders", source, "--upright")
    assert "2 images with an EXIF orientation were written upright, as --upright says." in out.said
    upright = ImageOps.exif_transpose(Image.open(source / "images" / "a.png"))
    np.testing.assert_array_equal(np.asarray(written(out)), np.asarray(upright))


def test_a_label_that_fits_neither_view_is_refused_with_the_orientation(prepare, photos, make):
    source = photos(6)
    make.label(source / "labels" / "a.png", make.full([1, 2], (5, 5)))
    with pytest.raises(UserError, match=r"5 x 5 pixels, but its image .* 16 x 24 \(EXIF orientation 6"):
        prepare("folders", source)


def test_training_names_the_orientation_and_the_command_that_turns_images(photos):
    from mit_semseg.data.images import open_pair
    from mit_semseg.data.label_coding import LabelCoding

    source = photos(6)
    with pytest.raises(UserError) as caught:
        open_pair(source / "images" / "a.jpg", source / "labels" / "a.png", LabelCoding(2))
    assert "The label fits the upright view that EXIF orientation 6 gives." in str(caught.value)
    assert "mit-semseg data prepare folders SOURCE OUT" in str(caught.value)
