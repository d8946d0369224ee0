import os

import numpy as np
import pytest
from image_files import png, saved
from PIL import Image

from mit_semseg.data.labels import LabelCoding, read_label, read_values
from mit_semseg.errors import UserError

GRADIENT = np.arange(0, 256, 8, dtype=np.uint8).reshape(4, 8)


def test_gray_labels_are_read_as_they_are(tmp_path):
    label = read_label(saved(tmp_path / "a.png", GRADIENT), LabelCoding(num_class=255))
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, GRADIENT)


@pytest.mark.parametrize("entries", [2, 4, 16, 256])
def test_palette_labels_are_read_by_index_not_by_colour(tmp_path, entries):
    indices = (GRADIENT.astype(int) % entries).astype(np.uint8)
    image = Image.frombytes("P", (8, 4), indices.tobytes())
    image.putpalette([255 - k // 3 for k in range(3 * entries)])
    path = saved(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read_values(path), indices)


def test_labels_of_few_bits_give_class_numbers_not_shades(tmp_path):
    for bits, row, values in [
        (1, 0b10010000, [1, 0, 0, 1]),
        (2, 0b00011011, [0, 1, 2, 3]),
    ]:
        path = tmp_path / f"{bits}.png"
        path.write_bytes(png(4, 1, bits, [bytes([row])]))
        assert read_values(path).tolist() == [values]
    path = tmp_path / "4.png"
    path.write_bytes(png(4, 1, 4, [bytes([0x0F, 0x73])]))
    assert read_values(path).tolist() == [[0, 15, 7, 3]]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_labels_keep_their_values(tmp_path, extension):
    values = np.array([[1, 300], [0, 65535]], np.uint16)
    path = saved(tmp_path / f"a.{extension}", values)
    np.testing.assert_array_equal(read_values(path), values)
    with pytest.raises(UserError, match="holds the value 65535, but with 300 classes"):
        read_label(path, LabelCoding(num_class=300))
    label = read_label(path, LabelCoding(num_class=300, ignore=65535))
    assert label.tolist() == [[1, 300], [0, 0]]


def test_32_bit_values_beyond_16_bits_are_refused(tmp_path):
    path = saved(tmp_path / "a.tif", np.array([[1, 70_000]], np.int32))
    with pytest.raises(UserError, match="holds values from 1 to 70000; labels go from 0 to 65535"):
        read_values(path)


def test_a_value_beyond_num_class_is_named_and_num_class_itself_is_good(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[0, 11, 12]], np.uint8))
    read_label(path, LabelCoding(num_class=12))
    read_label(path, LabelCoding())
    with pytest.raises(UserError) as caught:
        read_label(path, LabelCoding(num_class=11))
    assert str(caught.value) == (
        f"{path} holds the value 12, but with 11 classes (DATASET.num_class) labels go from 1 "
        "(DATASET.label_offset) to 11. If there are more classes, set DATASET.num_class 12. If 12 should be "
        'unlabelled: mit-semseg data prepare folders SOURCE OUT --map "12:0".'
    )


def test_the_common_255_gets_a_hint_and_passes_once_it_is_followed(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[1, 255]], np.uint8))
    with pytest.raises(UserError, match=r"If 255 stands for unlabelled, set DATASET\.ignore_label 255"):
        read_label(path, LabelCoding(num_class=11))
    assert read_label(path, LabelCoding(num_class=11, ignore=255)).tolist() == [[1, 0]]


@pytest.mark.parametrize("values", [[[0, 3, 255]], [[0, 3, 254, 255]]])
def test_an_ignored_value_does_not_hide_one_beyond(values):
    coding = LabelCoding(num_class=3, offset=0, ignore=255)
    beyond = coding.beyond(np.array(values, np.uint8))
    assert beyond == (254 if 254 in values[0] else 3)
    assert coding.beyond(np.array([[0, 2, 255]], np.uint8)) is None


@pytest.mark.parametrize(
    ("coding", "standard"),
    [
        (LabelCoding(num_class=3), [0, 1, 2, 3]),
        (LabelCoding(num_class=3, offset=0), [1, 2, 3, 4]),
        (LabelCoding(num_class=3, offset=2), [0, 0, 1, 2]),
        (LabelCoding(num_class=3, ignore=2), [0, 1, 0, 3]),
        (LabelCoding(num_class=3, offset=0, ignore=0), [0, 2, 3, 4]),
        (LabelCoding(num_class=300, offset=0), [1, 2, 3, 4]),
        (LabelCoding(), [0, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_standard_values_are_the_class_number_plus_one(coding, standard, dtype):
    found = coding.standard(np.arange(4, dtype=dtype))
    assert found.tolist() == standard
    assert found.dtype in (np.uint8, np.int32)  # what torch and torchvision take as labels


def test_a_jpeg_label_is_refused_whatever_its_name(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(tmp_path / "a.jpg", GRADIENT // 64).read_bytes())
    for name in ("a.jpg", "a.png"):
        with pytest.raises(UserError, match="is a JPEG file, whose compression changes class numbers"):
            read_values(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match="is a pipe or a device, not a file"):
        read_values(tmp_path / "a.png")
