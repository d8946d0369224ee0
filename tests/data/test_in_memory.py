import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg.data.images import open_image
from mit_semseg.data.in_memory import to_rgb
from mit_semseg.errors import UserError

NOISE = np.random.Generator(np.random.Philox(3)).integers(0, 256, (5, 7, 3)).astype(np.uint8)
CHW = torch.from_numpy(NOISE).permute(2, 0, 1)


def pixels(image):
    rgb = to_rgb(image, "image")
    assert rgb.mode == "RGB"
    return np.asarray(rgb)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(NOISE),
        Image.fromarray(np.dstack([NOISE, NOISE[..., 0]])),
        NOISE,
        np.dstack([NOISE, NOISE[..., 0]]),
        np.asfortranarray(NOISE),
        NOISE[::-1][::-1],
        NOISE.astype(np.uint16) * 257,
        (NOISE.astype(">u2") * 257).astype(">u2"),
        NOISE / 255,
        (NOISE / 255).astype(np.float32),
        (NOISE / 255).astype(np.float16),
        CHW,
        CHW.contiguous(),
        CHW.to(torch.uint16) * 257,
        CHW / 255,
        (CHW / 255).half(),
        (CHW / 255).double().requires_grad_(),
        torch.cat([CHW, CHW[:1]]),
    ],
)
def test_every_form_of_an_image_gives_its_pixels(image):
    np.testing.assert_array_equal(pixels(image), NOISE)


@pytest.mark.parametrize(
    "image",
    [
        NOISE[..., 0],
        NOISE[..., :1],
        np.stack([NOISE[..., 0], NOISE[..., 1]], axis=-1),  # gray and alpha
        CHW[0],
        CHW[:1],
        Image.fromarray(NOISE[..., 0]),
        Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257),
        (CHW[0] / 255),
    ],
)
def test_gray_stands_in_all_three_channels(image):
    np.testing.assert_array_equal(pixels(image), np.repeat(NOISE[..., :1], 3, axis=2))


def test_numbers_between_two_of_8_bits_are_rounded():
    np.testing.assert_array_equal(pixels(np.array([[0, 0.4 / 255, 0.6 / 255, 1]]))[0, :, 0], [0, 0, 1, 255])
    np.testing.assert_array_equal(
        pixels(np.array([[0, 128, 129, 65535]], np.uint16))[0, :, 0], [0, 0, 1, 255]
    )


def test_bfloat16_holds_what_its_8_bits_can():
    assert np.abs(pixels((CHW / 255).bfloat16()).astype(int) - NOISE).max() <= 1


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16"]
)
def test_a_pil_image_of_any_mode_is_taken(mode):
    image = Image.fromarray(NOISE)
    image = image.convert("L").convert(mode) if mode in ("I;16", "LA", "PA") else image
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    assert pixels(image.convert(mode) if image.mode != mode else image).shape == NOISE.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_as_its_file_would_be(tmp_path, orientation):
    photo = Image.fromarray(NOISE)
    photo.getexif()[0x0112] = orientation
    photo.save(tmp_path / "a.png", exif=photo.getexif())
    expected = np.asarray(open_image(tmp_path / "a.png", upright=True))
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(pixels(opened), expected)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(pixels(str(tmp_path / "a.png")), expected)


@pytest.mark.parametrize(
    "make", [lambda a: a, Image.fromarray, lambda a: torch.from_numpy(a).permute(2, 0, 1)]
)
def test_what_is_given_is_neither_changed_nor_shared(make):
    values = NOISE.copy()
    image = make(values)
    rgb = to_rgb(image, "image")
    before = np.array(rgb)
    if isinstance(image, Image.Image):
        image.paste((0, 0, 0), (0, 0, 7, 5))
    values[:] = 0
    np.testing.assert_array_equal(np.asarray(rgb), before)
    np.testing.assert_array_equal(before, NOISE)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            None,
            "image is None, of type NoneType; it has to be a path, a PIL image, an array (H, W, 3) or a",
        ),
        (3, "image is 3, of type int; it has to be a path"),
        (b"a.jpg", "image is b'a.jpg', of type bytes; it has to be"),
        ({"img": 1}, "image is {'img': 1}, of type dict; it has to be"),
    ],
)
def test_what_is_no_image_is_refused_by_its_type(image, message):
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        to_rgb(image, "image")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((3, 5, 7), np.uint8),
            "image is an array of shape (3, 5, 7), but an image is (H, W, 3). Put the "
            "channels last: .transpose(1, 2, 0).",
        ),
        (
            torch.zeros(5, 7, 3),
            "image is a tensor of shape (5, 7, 3), but an image is (3, H, W). Put the channels "
            "first: .permute(2, 0, 1).",
        ),
        (
            torch.zeros(2, 3, 5, 7),
            "image is a tensor of shape (2, 3, 5, 7), but an image is (3, H, W). Pass "
            "several images as a list.",
        ),
        (np.zeros(5), "image is an array of shape (5,), but an image is (H, W, 3)."),
        (
            np.uint8([[[[1]]]]),
            "image is an array of shape (1, 1, 1, 1), but an image is (H, W, 3). Pass several",
        ),
        (np.zeros((5, 7, 5), np.uint8), "image is an array of shape (5, 7, 5), but an image is (H, W, 3)."),
        (np.zeros((0, 7, 3), np.uint8), "image is an array of shape (0, 7, 3): it has no pixels"),
        (torch.zeros(3, 5, 0), "image is a tensor of shape (3, 5, 0): it has no pixels"),
        (np.zeros((0, 0)), "image is an array of shape (0, 0): it has no pixels"),
        (Image.new("RGB", (0, 4)), "image has no pixels: it is 0 x 4"),
        (np.full((2, 2), np.nan), "image holds values that are NaN or infinite."),
        (torch.full((3, 2, 2), torch.inf), "image holds values that are NaN or infinite."),
        (
            np.array([[0.0, 255.0]]),
            "image holds values from 0 to 255, but floating point must be from 0 to 1. Divide",
        ),
        (
            torch.tensor([[-2.1, 1.5]]),
            "image holds values from -2.1 to 1.5, but floating point must be from 0 to 1.",
        ),
        (NOISE.astype(int), "image holds values of type int64, but takes uint8 or uint16, or floating point"),
        (NOISE > 3, "image holds values of type bool, but takes uint8"),
        (NOISE.astype(object), "image holds values of type object, but takes uint8"),
        (CHW.to(torch.complex64), "image holds values of type complex64, but takes uint8"),
    ],
)
def test_an_array_or_tensor_that_is_no_image_is_refused_with_what_it_is(image, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        to_rgb(image, "image")


def test_errors_of_a_file_name_it(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"a\.jpg is not an image that Pillow can read"):
        to_rgb(tmp_path / "a.jpg", "image")
    with pytest.raises(UserError, match=r"^nowhere\.jpg does not exist"):
        to_rgb(Path("nowhere.jpg"), "image")
    Image.fromarray(np.tile(NOISE, (20, 20, 1))).save(tmp_path / "b.png")
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "b.png") as lazy, pytest.raises(UserError, match=r"b\.png is truncated"):
        to_rgb(lazy, "image")
    with pytest.raises(UserError, match=r"^image holds floating-point values"):
        to_rgb(Image.new("F", (2, 2), 255), "image")
