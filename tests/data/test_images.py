import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg.data.images import (
    MEAN,
    STD,
    find_images,
    find_recursive,
    normalize,
    open_image,
    open_label,
    open_pair,
)
from mit_semseg.errors import UserError

GRADIENT = np.arange(0, 256, 8, dtype=np.uint8).reshape(4, 8)
NOISE = np.random.Generator(np.random.Philox(1)).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def saved(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def png(width, height, bits, rows):
    """A gray PNG of any bit depth, with the packed rows given."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


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


def test_values_of_unknown_range_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.tif holds floating-point values"):
        open_image(saved(tmp_path / "a.tif", np.array([[0.5]], np.float32)))
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
        for read in (open_image, open_label):
            with suppress(UserError):
                read(path)


def test_a_small_file_that_claims_a_huge_image_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(30_000, 30_000, 8, []))
    with pytest.raises(UserError, match=r"bomb\.png claims to be larger than [\d,]+ pixels"):
        open_image(path)


# Labels


def test_gray_labels_are_read_as_they_are(tmp_path):
    label = open_label(saved(tmp_path / "a.png", GRADIENT), num_class=255)
    assert label.mode == "L"
    np.testing.assert_array_equal(np.asarray(label), GRADIENT)


@pytest.mark.parametrize("entries", [2, 4, 16, 256])
def test_palette_labels_are_read_by_index_not_by_colour(tmp_path, entries):
    indices = (GRADIENT.astype(int) % entries).astype(np.uint8)
    image = Image.frombytes("P", (8, 4), indices.tobytes())
    image.putpalette([255 - k // 3 for k in range(3 * entries)])
    path = saved(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(open_label(path)), indices)


def test_labels_of_few_bits_give_class_numbers_not_shades(tmp_path):
    for bits, row, values in [
        (1, 0b10010000, [1, 0, 0, 1]),
        (2, 0b00011011, [0, 1, 2, 3]),
    ]:
        path = tmp_path / f"{bits}.png"
        path.write_bytes(png(4, 1, bits, [bytes([row])]))
        assert np.asarray(open_label(path)).tolist() == [values]
    path = tmp_path / "4.png"
    path.write_bytes(png(4, 1, 4, [bytes([0x0F, 0x73])]))
    assert np.asarray(open_label(path)).tolist() == [[0, 15, 7, 3]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_coloured_label_is_refused(tmp_path, mode):
    path = saved(tmp_path / "a.png", Image.new(mode, (3, 2)))
    with pytest.raises(UserError) as caught:
        open_label(path, num_class=5)
    assert str(caught.value) == (
        f"{path} is a label of mode {mode}; it must be an 8-bit gray or palette image whose values are class "
        f"numbers (0 unlabelled, 1 the first class). Turn its colours into class numbers first."
    )


def test_a_16_bit_label_is_refused(tmp_path):
    with pytest.raises(UserError, match="mode I;16; it must be an 8-bit"):
        open_label(saved(tmp_path / "a.png", np.array([[1, 300]], np.uint16)))


def test_a_value_beyond_num_class_is_named_and_num_class_itself_is_good(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[0, 11, 12]], np.uint8))
    open_label(path, num_class=12)
    open_label(path)
    with pytest.raises(UserError) as caught:
        open_label(path, num_class=11)
    assert str(caught.value) == (
        f"{path} holds the value 12, but with 11 classes (DATASET.num_class) "
        f"a label goes from 0 (unlabelled) to 11."
    )


def test_the_common_255_gets_a_hint(tmp_path):
    with pytest.raises(UserError, match="If 255 stands for unlabelled, write 0 in its place"):
        open_label(saved(tmp_path / "a.png", np.array([[1, 255]], np.uint8)), num_class=11)


def test_a_label_of_another_size_is_refused_with_both_sizes(tmp_path):
    image = saved(tmp_path / "a.jpg", NOISE)
    label = saved(tmp_path / "a.png", GRADIENT)
    with pytest.raises(UserError) as caught:
        open_pair(image, label)
    assert str(caught.value) == f"{label} is 8 x 4 pixels, but its image {image} is 60 x 40."


# Normalization


def test_a_pixel_normalized_by_hand():
    image = Image.new("RGB", (2, 1), (255, 0, 128))
    red, green, blue = (1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225
    torch.testing.assert_close(normalize(image), torch.tensor([[[red] * 2], [[green] * 2], [[blue] * 2]]))


def test_normalizing_into_a_part_of_a_tensor_leaves_the_rest():
    canvas = torch.zeros(3, 50, 70)
    part = canvas[:, :40, :60]
    assert normalize(Image.fromarray(NOISE), out=part) is part
    exact = (torch.from_numpy(NOISE.astype(np.float64)) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(part, exact.permute(2, 0, 1).float())
    assert not canvas[:, 40:].any()
    assert not canvas[:, :, 60:].any()


# Finding


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
