import numpy as np
import pytest
from PIL import Image

from mit_semseg.errors import UserError
from mit_semseg.inference.pictures import (
    colorEncode,
    is_own_picture,
    overlay,
    save_picture,
    side_by_side,
)

COLORS = np.array([[10, 20, 30], [200, 100, 0], [255, 255, 255]], np.uint8)


def random_labels(shape=(13, 17)):
    return np.random.Generator(np.random.Philox(0)).integers(-1, 3, shape)


def test_a_label_map_in_colours_by_hand():
    picture = colorEncode(np.array([[0, 1], [-1, 2]]), COLORS)
    assert picture.tolist() == [[[10, 20, 30], [200, 100, 0]], [[0, 0, 0], [255, 255, 255]]]
    assert picture.dtype == np.uint8


def test_every_negative_label_is_black():
    assert not colorEncode(np.array([[-1, -2, -100]]), COLORS).any()


def test_bgr_is_a_contiguous_copy_of_the_reverse():
    labels = random_labels()
    rgb, bgr = colorEncode(labels, COLORS), colorEncode(labels, COLORS, mode="BGR")
    np.testing.assert_array_equal(bgr, rgb[:, :, ::-1])
    assert bgr.flags.c_contiguous
    assert rgb.flags.c_contiguous
    bgr[:] = 7
    assert COLORS[0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32])
def test_labels_of_any_type_give_the_same_picture(dtype):
    labels = np.abs(random_labels())
    np.testing.assert_array_equal(colorEncode(labels.astype(dtype), COLORS), colorEncode(labels, COLORS))


def test_more_classes_than_a_byte_holds_have_their_colours():
    colors = np.arange(900, dtype=np.uint16).reshape(300, 3).astype(np.uint8)
    picture = colorEncode(np.array([[299, 256, -1]], np.int16), colors)
    assert picture.tolist() == [[colors[299].tolist(), colors[256].tolist(), [0, 0, 0]]]


def test_an_empty_map_is_an_empty_picture():
    assert colorEncode(np.zeros((0, 4), int), COLORS).shape == (0, 4, 3)


def test_a_class_without_a_colour_and_an_unknown_mode_are_refused():
    with pytest.raises(ValueError, match=r"^labelmap holds class 3, but there are 3 colours$"):
        colorEncode([[3]], COLORS)
    with pytest.raises(ValueError, match=r"^mode is 'rgb', but takes 'RGB' or 'BGR'$"):
        colorEncode([[0]], COLORS, mode="rgb")


def test_an_overlay_by_hand():
    image = np.full((1, 3, 3), 100, np.uint8)
    labels = np.array([[1, 2, -1]])
    assert overlay(image, labels, COLORS).tolist() == [[[150, 100, 50], [178, 178, 178], [100, 100, 100]]]
    np.testing.assert_array_equal(overlay(image, labels, COLORS, alpha=0), image)
    opaque = overlay(image, labels, COLORS, alpha=1)
    assert opaque.tolist() == [[[200, 100, 0], [255, 255, 255], [100, 100, 100]]]


def test_an_overlay_keeps_its_hands_off_the_photo():
    image = np.full((13, 17, 3), 9, np.uint8)
    overlay(image, random_labels(), COLORS)
    assert (image == 9).all()


def test_an_overlay_of_another_size_or_weight_is_refused():
    image = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(ValueError, match=r"^image is \(2, 3\) \(height, width\), but labelmap is \(3, 2\)$"):
        overlay(image, np.zeros((3, 2), int), COLORS)
    with pytest.raises(ValueError, match=r"^alpha is 50, but takes a number from 0 to 1$"):
        overlay(image, np.zeros((2, 3), int), COLORS, alpha=50)


def test_pictures_stand_side_by_side():
    left, right = colorEncode(random_labels((5, 3)), COLORS), colorEncode(random_labels((5, 4)), COLORS)
    row = side_by_side([left, right])
    assert row.shape == (5, 7, 3)
    np.testing.assert_array_equal(row[:, :3], left)
    np.testing.assert_array_equal(row[:, 3:], right)


def test_a_picture_is_saved_without_loss_in_a_folder_that_is_made(tmp_path):
    picture = colorEncode(random_labels(), COLORS)
    save_picture(picture, tmp_path / "a" / "b" / "c.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a" / "b" / "c.png")), picture)
    assert [file.name for file in (tmp_path / "a" / "b").iterdir()] == ["c.png"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        save_picture(colorEncode([[0]], COLORS), tmp_path / "file" / "c.png")


def test_pictures_of_ones_own_are_told_from_others(tmp_path):
    picture = colorEncode(random_labels(), COLORS)
    save_picture(picture, tmp_path / "own.png")
    Image.fromarray(picture).save(tmp_path / "other.png")
    (tmp_path / "empty.png").touch()
    assert is_own_picture(tmp_path / "own.png")
    assert not any(is_own_picture(tmp_path / name) for name in ("other.png", "empty.png", "none.png"))


def test_gray_pictures_of_16_bits_keep_their_values(tmp_path):
    values = np.array([[0, 256], [300, 65535]], np.uint16)
    save_picture(values, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), values)
