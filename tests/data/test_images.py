from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import png, saved
from PIL import Image, ImageFile

from mit_semseg.data.images import MEAN, STD, normalize, open_image, open_pair
from mit_semseg.data.labels import LabelCoding, read_values
from mit_semseg.errors import UserError

GRADIENT = np.arange(0, 256, 8, dtype=np.uint8).reshape(4, 8)
NOISE = np.random.Generator(np.random.Philox(1)).integers(0, 256, (40, 60, 3)).astype(np.uint8)


# Images


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_files_give_the_pixels_that_were_saved(tmp_path, extension):
    options = {"lossless": True} if extension == "webp" else {}
    image = open_image(saved(tmp_path / f"a.{extension}", NOISE, **options))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), NOISE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_8_bit_rgb(tmp_path, mode):
    source = Image.fromarray(GRADIENT).convert("I;16" if mode == "I;16" else "RGB")
    extension = {"CMYK": "tif", "YCbCr": "jpg"}.get(mode, "png")
    image = open_image(saved(tmp_path / f"a.{extension}", source.convert(mode)))
    assert (image.mode, image.size) == ("RGB", (8, 4))


def test_transparency_is_dropped_not_blended(tmp_path):
    transparent = np.dstack([NOISE, np.zeros(NOISE.shape[:2], np.uint8)])
    np.testing.assert_array_equal(np.asarray(open_image(saved(tmp_path / "a.png", transparent))), NOISE)


def test_a_palette_with_transparent_entries_gives_its_colours_without_a_warning(tmp_path):
    image = Image.frombytes("P", (2, 1), bytes([0, 1]))
    image.putpalette([10, 20, 30, 40, 50, 60])
    path = saved(tmp_path / "a.png", image, transparency=b"\x00\x80")
    assert np.asarray(open_image(path)).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_16_bit_gray_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    image = open_image(saved(tmp_path / "a.png", values))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_floating_point_from_0_to_1_becomes_8_bit_gray(tmp_path):
    image = open_image(saved(tmp_path / "a.tif", np.array([[0, 0.5, 0.25, 1]], np.float32)))
    assert np.asarray(image).tolist() == [[[value] * 3 for value in (0, 128, 64, 255)]]


def test_values_of_unknown_range_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"a\.tif holds floating-point values from -3 to 1\.5, not from 0 to 1"
    ):
        open_image(saved(tmp_path / "a.tif", np.array([[1.5, -3]], np.float32)))
    with pytest.raises(UserError, match=r"n\.tif holds floating-point values from nan to nan"):
        open_image(saved(tmp_path / "n.tif", np.array([[0.5, np.nan]], np.float32)))
    with pytest.raises(UserError, match=r"b\.tif holds values from 0 to 70000, more than 16 bits"):
        open_image(saved(tmp_path / "b.tif", np.array([[0, 70000]], np.int32)))


def test_an_image_is_turned_upright_only_where_that_is_asked_for(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate clockwise to see it
    path = saved(tmp_path / "a.png", NOISE, exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(path)), NOISE)
    np.testing.assert_array_equal(np.asarray(open_image(path, upright=True)), np.rot90(NOISE, -1))


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    for name, problem in [
        ("none.jpg", "does not exist"),
        ("empty.jpg", "is empty"),
        ("text.jpg", "is not an image"),
        ("", "cannot be read: Is a directory"),
        ("text.jpg/a.jpg", "cannot be read: Not a directory"),
    ]:
        with pytest.raises(UserError) as caught:
            open_image(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name} {problem}")


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "tif", "gif", "ppm"])
def test_a_truncated_file_is_called_truncated(tmp_path, extension):
    path = saved(tmp_path / f"a.{extension}", NOISE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"{path} is truncated (")


@pytest.mark.filterwarnings("ignore")  # decoders warn about some of these
@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "tif", "gif", "ppm", "webp"])
def test_no_damage_to_a_file_ends_in_another_error(tmp_path, extension):
    whole = saved(tmp_path / f"a.{extension}", NOISE).read_bytes()
    rng = np.random.Generator(np.random.Philox(2))
    for k in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 400), 4):
            damaged[position] = rng.integers(0, 256)
        path = tmp_path / f"{k}.{extension}"
        path.write_bytes(damaged if k % 2 else damaged[: rng.integers(1, len(whole))])
        for read in (open_image, read_values):
            with suppress(UserError):
                read(path)


def test_a_small_file_that_claims_a_huge_image_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(30_000, 30_000, 8, []))
    with pytest.raises(UserError, match=r"bomb\.png claims to be larger than [\d,]+ pixels"):
        open_image(path)


def test_an_image_that_is_larger_than_pillow_likes_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    saved(tmp_path / "large.png", NOISE)
    assert open_image(tmp_path / "large.png").size == (NOISE.shape[1], NOISE.shape[0])
    assert Image.MAX_IMAGE_PIXELS == 100


# Pairs


def test_a_label_of_another_size_is_refused_with_both_sizes(tmp_path):
    image = saved(tmp_path / "a.jpg", NOISE)
    label = saved(tmp_path / "a.png", GRADIENT)
    with pytest.raises(UserError) as caught:
        open_pair(image, label, LabelCoding())
    assert str(caught.value) == f"{label} is 8 x 4 pixels, but its image {image} is 60 x 40."


@pytest.mark.parametrize(
    ("at_least", "size"),
    [
        (None, (640, 480)),
        (300, (640, 480)),
        (240, (320, 240)),
        (180, (240, 180)),
        (61, (160, 120)),
        (60, (80, 60)),
        (7, (80, 60)),
        (900, (640, 480)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_size_that_is_large_enough(tmp_path, at_least, size):
    x = np.linspace(0, 255, 640, dtype=np.uint8)
    image = saved(tmp_path / "a.jpg", np.broadcast_to(x[None, :, None], (480, 640, 3)).copy(), quality=95)
    label = saved(tmp_path / "a.png", np.ones((480, 640), np.uint8))
    small, values = open_pair(image, label, LabelCoding(), at_least)
    assert small.shape == (size[1], size[0], 3)
    assert values.shape == (480, 640)
    wanted = open_image(image).resize(size, Image.Resampling.BOX)
    assert np.abs(small.astype(int) - np.asarray(wanted)).max() <= 4


def test_other_files_than_jpegs_are_decoded_whole(tmp_path):
    image = saved(tmp_path / "a.png", NOISE)
    pixels, _ = open_pair(image, saved(tmp_path / "b.png", NOISE[..., 0]), LabelCoding(), 2)
    np.testing.assert_array_equal(pixels, NOISE)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 2, "quality": 30}, {"quality": 100}]
)
def test_jpegs_of_any_kind_have_the_values_that_pillow_gives_them(tmp_path, mode, options):
    image = saved(tmp_path / "a.jpg", Image.fromarray(NOISE).convert(mode), **options)
    pixels, _ = open_pair(image, saved(tmp_path / "b.png", NOISE[..., 0]), LabelCoding())
    np.testing.assert_array_equal(pixels, np.asarray(open_image(image)))


def test_what_is_wrong_with_a_jpeg_of_a_pair_is_what_is_wrong_with_the_image_alone(tmp_path):
    whole = saved(tmp_path / "a.jpg", NOISE).read_bytes()
    label = saved(tmp_path / "b.png", NOISE[..., 0])
    for damaged in (whole[:-200], whole[:30], b"", b"\xff\xd8\xff", whole[:2] + b"x" * 50):
        (tmp_path / "a.jpg").write_bytes(damaged)
        messages = []
        for read in (open_image, lambda path: open_pair(path, label, LabelCoding())):
            with pytest.raises(UserError) as caught:
                read(tmp_path / "a.jpg")
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    (tmp_path / "a.jpg").write_bytes(whole + b"what some cameras write behind the end")
    assert open_pair(tmp_path / "a.jpg", label, LabelCoding())[0].shape == NOISE.shape


# Normalization


def test_a_pixel_normalized_by_hand():
    pixels = torch.tensor([255, 0, 128], dtype=torch.uint8).view(1, 3, 1, 1)
    red, green, blue = (1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225
    torch.testing.assert_close(normalize(pixels).flatten(), torch.tensor([red, green, blue]))


def test_a_batch_is_the_formula_with_the_mean_colour_in_the_padding():
    pixels = torch.from_numpy(np.stack([NOISE, NOISE[::-1]])).permute(0, 3, 1, 2)
    exact = (pixels.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    exact[0, :, 31:] = 0
    exact[1, :, :, 17:] = 0
    found = normalize(pixels, [(60, 31), (17, 40)])
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(found, exact.float())


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_a_pair_of_two_sizes_is_refused_before_the_image_is_decoded(tmp_path, extension, monkeypatch):
    image = saved(tmp_path / f"a.{extension}", NOISE)
    label = saved(tmp_path / "b.png", GRADIENT)
    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse_beyond(label.name, ImageFile.ImageFile.load))
    with pytest.raises(UserError, match="is 8 x 4 pixels, but its image"):
        open_pair(image, label, LabelCoding())


def refuse_beyond(name, load):
    def loaded(image, *args):
        assert Path(getattr(image, "filename", "")).name == name
        return load(image, *args)

    return loaded
