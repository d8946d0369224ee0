import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mit_semseg.data.labels import read_values
from mit_semseg.dataset_tools.check.decode import claimed_size, read_image, read_label

VALUES = np.arange(60, dtype=np.uint8).reshape(6, 10) % 4
NOISE = np.random.Generator(np.random.Philox(1)).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def png(width, height, pixels=b""):
    """A gray PNG whose header claims any size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(**options):
    return encoded(Image.fromarray(NOISE), "JPEG", **options)


def test_an_image_is_described_by_its_stored_size_mode_and_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(exif=exif))
    file = read_image(str(path))
    assert (file.problem, file.width, file.height, file.mode, file.orientation) == ("", 60, 40, "RGB", 6)
    path.write_bytes(jpeg())
    assert read_image(str(path)).orientation == 1
    assert read_image(str(path)).digest != file.digest


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(VALUES),
        Image.fromarray(VALUES).convert("P"),
        Image.fromarray(VALUES > 1),
        Image.fromarray(VALUES.astype(np.uint16) * 1000),
        Image.fromarray(VALUES.astype(np.int32)),
    ],
    ids=lambda image: image.mode,
)
def test_a_label_has_the_values_that_training_reads(tmp_path, image):
    path = tmp_path / "a.tif"
    image.save(path)
    values, counts = np.unique(read_values(path), return_counts=True)
    file = read_label(str(path))
    assert (file.problem, file.width, file.height) == ("", 10, 6)
    np.testing.assert_array_equal(file.values, values)
    np.testing.assert_array_equal(file.counts, counts)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_of_few_bits_has_its_own_values(tmp_path, bits):
    packed = np.packbits((VALUES[:, :8] % 2**bits)[..., None] >> np.arange(bits)[::-1] & 1).reshape(6, bits)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    data = bytearray(png(8, 6, rows))
    data[24] = bits
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_label(str(path)).values, np.unique(read_values(path)))
    np.testing.assert_array_equal(read_values(path), VALUES[:, :8] % 2**bits)


BAD = {
    "empty": (b"", ""),
    "zero_size": (png(0, 0), "0 x 0 pixels"),
    "bomb": (png(30_000, 30_000), f"claims 30000 x 30000 pixels in {len(png(30_000, 30_000))} bytes"),
    "not_an_image": (b"<!DOCTYPE html><p>404", "an HTML page"),
    "damaged": (png(10, 10)[:33] + b"IEND", "starts like a PNG file, but its header cannot be read"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("read", [read_image, read_label])
def test_each_way_to_be_broken_has_its_name(tmp_path, read, kind):
    data, detail = BAD[kind]
    (tmp_path / "x.png").write_bytes(data)
    file = read(str(tmp_path / "x.png"))
    assert (file.problem, file.detail, file.width) == (kind, detail, 0)


def test_a_missing_file_is_reported_with_the_one_that_was_meant(tmp_path):
    (tmp_path / "a.png").write_bytes(png(10, 10))
    facts = read_image(str(tmp_path / "A.PNG"))
    assert (facts.problem, facts.detail) == ("missing", f"Did you mean {tmp_path / 'a.png'}?")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("data", [jpeg(), jpeg(progressive=True), encoded(Image.fromarray(NOISE))])
def test_truncated_files_are_found_wherever_they_end(tmp_path, data, share):
    (tmp_path / "x").write_bytes(data[: int(len(data) * share)])
    assert read_image(str(tmp_path / "x")).problem == "truncated"


def test_any_bytes_at_all_are_described(tmp_path):
    rng = np.random.Generator(np.random.Philox(5))
    originals = [jpeg(), encoded(Image.fromarray(VALUES)), encoded(Image.fromarray(NOISE), "TIFF"), png(9, 9)]
    for trial in range(120):
        data = bytearray(originals[trial % len(originals)])
        for at in rng.integers(0, min(len(data), 200), 4):
            data[at] = rng.integers(0, 256)
        (tmp_path / "x").write_bytes(data)
        for read in (read_image, read_label):
            file = read(str(tmp_path / "x"))
            assert file.problem or file.width


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    assert read_image(str(tmp_path / "pipe")).detail == "not a regular file"
    assert read_image(str(tmp_path)).detail == "a folder"
    assert read_image(str(tmp_path / "none.png")).problem == "missing"
    assert read_image(str(tmp_path / "pipe" / "x.png")).problem == "missing"


@pytest.mark.parametrize(
    ("image", "kind", "problem"),
    [
        (Image.fromarray(NOISE), "PNG", "label_rgb"),
        (Image.fromarray(NOISE).convert("RGBA"), "PNG", "label_rgb"),
        (Image.fromarray(VALUES).convert("RGB"), "PNG", "label_gray_in_rgb"),
        (Image.fromarray(VALUES.astype(np.float32)), "TIFF", "label_float"),
        (Image.fromarray(VALUES / np.float32(2)), "TIFF", "label_fraction"),
        (Image.fromarray(VALUES).convert("LA"), "PNG", "label_alpha"),
        (Image.merge("LA", [Image.fromarray(VALUES)] * 2), "PNG", "label_mode"),
        (Image.fromarray(NOISE[..., 0]).convert("CMYK"), "TIFF", "label_mode"),
        (Image.fromarray(VALUES), "JPEG", "label_lossy"),
        (Image.fromarray(VALUES.astype(np.int32) - 1), "TIFF", "label_mode"),
    ],
)
def test_labels_that_hold_no_class_numbers_are_told_apart(tmp_path, image, kind, problem):
    (tmp_path / "x").write_bytes(encoded(image, kind))
    assert read_label(str(tmp_path / "x")).problem == problem


def test_a_tiff_may_hold_a_jpeg(tmp_path):
    for compression, problem in (("jpeg", "label_lossy"), ("tiff_lzw", "")):
        (tmp_path / "x").write_bytes(encoded(Image.fromarray(VALUES), "TIFF", compression=compression))
        assert read_label(str(tmp_path / "x")).problem == problem


def test_images_of_unknown_range_are_found(tmp_path):
    (tmp_path / "x").write_bytes(encoded(Image.fromarray(NOISE[..., 0].astype(np.float32) / 255), "TIFF"))
    assert read_image(str(tmp_path / "x")).problem == ""
    for values in (NOISE[..., 0].astype(np.float32), NOISE[..., 0].astype(np.int32) + 70_000):
        (tmp_path / "x").write_bytes(encoded(Image.fromarray(values), "TIFF"))
        assert read_image(str(tmp_path / "x")).problem == "image_mode"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "JPEG"])
def test_the_claimed_size_is_in_the_header(kind):
    assert claimed_size(encoded(Image.fromarray(NOISE), kind)) == (60, 40)
    assert claimed_size(encoded(Image.fromarray(NOISE), kind)[:6]) is None
