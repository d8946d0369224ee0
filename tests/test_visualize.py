import numpy as np
import pytest
from PIL import Image

from mit_semseg.errors import UserError
from mit_semseg.visualize import colorEncode, save_picture, side_by_side

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


def test_an_empty_map_is_an_empty_picture():
    assert colorEncode(np.zeros((0, 4), int), COLORS).shape == (0, 4, 3)


def test_a_class_without_a_colour_and_an_unknown_mode_are_refused():
    with pytest.raises(ValueError, match=r"^labelmap holds class 3, but there are 3 colours$"):
        colorEncode([[3]], COLORS)
    with pytest.raises(ValueError, match=r"^mode is 'rgb', but takes 'RGB' or 'BGR'$"):
        colorEncode([[0]], COLORS, mode="rgb")


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
