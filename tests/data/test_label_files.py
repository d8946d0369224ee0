"""How a label file holds its values, and that training, check and prepare give one answer."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from mit_semseg.data.label_diagnosis import count_classes
from mit_semseg.data.label_files import FIXES, LabelError, count_values, require_unmixed
from mit_semseg.data.labels import read_values
from mit_semseg.dataset_tools.check.decode import read_label
from mit_semseg.dataset_tools.check.issue_types import ISSUE_TYPES
from mit_semseg.dataset_tools.prepare.labels import IndexLabels

VALUES = np.arange(60, dtype=np.uint8).reshape(6, 10) % 4
GRAY = Image.fromarray(VALUES)
COLORS = np.random.Generator(np.random.Philox(1)).integers(0, 256, (6, 10, 3)).astype(np.uint8)
SAME_ALPHA = Image.new("L", GRAY.size, 200)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def palette(**options):
    image = Image.fromarray(VALUES)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    return encoded(image, **options)


READ = {
    "gray": (encoded(GRAY), VALUES),
    "palette": (palette(), VALUES),
    "palette with one transparent colour": (palette(transparency=0), VALUES),
    "palette with alpha for each colour": (palette(transparency=bytes([0, 9, 99, 255])), VALUES),
    "gray with a transparent value": (encoded(GRAY, transparency=0), VALUES),
    "1 bit": (encoded(Image.fromarray(VALUES > 1)), VALUES > 1),
    "1 bit in a TIFF": (encoded(Image.fromarray(VALUES > 1), "TIFF", compression="group4"), VALUES > 1),
    "16 bits": (encoded(Image.fromarray(VALUES.astype(np.uint16) * 999)), VALUES.astype(int) * 999),
    "32 bits in a TIFF": (encoded(Image.fromarray(VALUES.astype(np.int32)), "TIFF"), VALUES),
    "a TIFF with LZW": (encoded(GRAY, "TIFF", compression="tiff_lzw"), VALUES),
    "a TIFF with an overview": (
        encoded(GRAY, "TIFF", save_all=True, append_images=[GRAY.resize((5, 3))]),
        VALUES,
    ),
    "GIF": (encoded(GRAY, "GIF"), VALUES),
    "BMP": (encoded(GRAY, "BMP"), VALUES),
}

REFUSED = {
    "a TIFF with pages": (
        "label_pages",
        "holds 2 images",
        encoded(GRAY, "TIFF", save_all=True, append_images=[GRAY]),
    ),
    "an animation": (
        "label_pages",
        "holds 2 images",
        encoded(GRAY, "GIF", save_all=True, append_images=[Image.fromarray(VALUES[::-1].copy())]),
    ),
    "JPEG": ("label_lossy", "a JPEG file, whose compression", encoded(GRAY, "JPEG")),
    "JPEG in a TIFF": (
        "label_lossy",
        "a TIFF file with JPEG compression, which",
        encoded(GRAY, "TIFF", compression="jpeg"),
    ),
    "AVIF": ("label_lossy", "an AVIF file, whose compression", encoded(GRAY, "AVIF")),
    "lossless WebP": ("label_lossy", "a WebP file, whose compression", encoded(GRAY, "WEBP", lossless=True)),
    "JPEG 2000": ("label_lossy", "a JPEG 2000 file, whose compression", encoded(GRAY, "JPEG2000")),
    "HEIC": ("label_lossy", "a HEIC file, whose compression", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    "JPEG XL": ("label_lossy", "a JPEG XL file, whose compression", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(9)),
    "colours": ("label_rgb", "mode RGB, which holds colours", encoded(Image.fromarray(COLORS))),
    "colours with alpha": (
        "label_rgb",
        "mode RGBA, which holds colours",
        encoded(Image.fromarray(COLORS).convert("RGBA")),
    ),
    "gray as RGB": ("label_gray_in_rgb", "with three equal channels", encoded(GRAY.convert("RGB"))),
    "gray as RGBA": (
        "label_gray_in_rgb",
        "with three equal channels",
        encoded(Image.merge("RGBA", [GRAY, GRAY, GRAY, SAME_ALPHA])),
    ),
    "gray as RGB with a mask as alpha": (
        "label_mode",
        "an alpha channel that varies",
        encoded(Image.merge("RGBA", [GRAY, GRAY, GRAY, GRAY])),
    ),
    "gray with alpha": ("label_alpha", "mode LA", encoded(Image.merge("LA", [GRAY, SAME_ALPHA]))),
    "gray with a mask as alpha": (
        "label_mode",
        "an alpha channel that varies",
        encoded(Image.merge("LA", [GRAY, GRAY])),
    ),
    "whole floats": ("label_float", "whole numbers", encoded(Image.fromarray(VALUES.astype("f4")), "TIFF")),
    "fractions": ("label_fraction", "such as 0.5", encoded(Image.fromarray(VALUES / np.float32(2)), "TIFF")),
    "no data": (
        "label_fraction",
        "such as nan",
        encoded(Image.fromarray(np.where(VALUES, VALUES, np.nan).astype("f4")), "TIFF"),
    ),
    "negative": (
        "label_mode",
        "from -1 to 2",
        encoded(Image.fromarray(VALUES.astype(np.int32) - 1), "TIFF"),
    ),
    "CMYK": ("label_mode", "mode CMYK", encoded(GRAY.convert("CMYK"), "TIFF")),
}
CONVERTED = {"gray with alpha": {}, "whole floats": {}, "gray as RGB": {"one_channel": True}}
CONVERTED["gray as RGBA"] = CONVERTED["gray as RGB"]


@pytest.mark.parametrize("name", READ)
def test_the_values_do_not_depend_on_how_the_file_holds_them(tmp_path, name):
    data, values = READ[name]
    (tmp_path / "x").write_bytes(data)
    np.testing.assert_array_equal(read_values(tmp_path / "x"), values)
    np.testing.assert_array_equal(IndexLabels().values(tmp_path / "x", b""), values)
    file = read_label(str(tmp_path / "x"))
    assert (file.problem, file.values.tolist()) == ("", np.unique(values).astype(int).tolist())


@pytest.mark.parametrize("name", REFUSED)
def test_training_check_and_prepare_refuse_the_same_files_for_the_same_reason(tmp_path, name):
    kind, what, data = REFUSED[name]
    path = tmp_path / "x.png"  # the name does not matter
    path.write_bytes(data)
    with pytest.raises(LabelError) as of_training:
        read_values(path)
    assert of_training.value.kind == kind
    assert what in str(of_training.value)
    assert str(of_training.value) == f"{path} {of_training.value.what}. {FIXES[kind]}"
    file = read_label(str(path))
    assert (file.problem, file.detail) == (kind, of_training.value.what)
    assert ISSUE_TYPES[kind].fix == FIXES[kind]
    if name in CONVERTED:  # by prepare, as the fix says
        np.testing.assert_array_equal(IndexLabels(**CONVERTED[name]).values(path, b""), VALUES)
        return
    with pytest.raises(LabelError) as of_prepare:
        IndexLabels(one_channel=True).values(path, b"")
    assert str(of_prepare.value) == str(of_training.value)


def test_an_error_reaches_another_process_as_it_is():
    error = LabelError("a.png", "label_rgb", "is a label of mode RGB")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_are_counted_as_numpy_counts_them(dtype):
    values = np.random.Generator(np.random.Philox(2)).integers(0, 250, (1200, 1000)).astype(dtype)
    for found, expected in zip(count_values(values), np.unique(values, return_counts=True), strict=True):
        assert found.tolist() == expected.tolist()


def _levels():
    """Four classes with slanted borders, spread over the range of a byte, (64, 96)."""
    y, x = np.mgrid[:64, :96]
    return (np.clip((x + y // 2) // 32, 0, 3) * 80).astype(np.uint8)


def _through_jpeg(levels):
    with Image.open(io.BytesIO(encoded(Image.fromarray(levels), "JPEG", quality=80))) as image:
        return np.array(image)


def _resized(levels):
    image = Image.fromarray(levels)
    return np.array(
        image.resize((48, 32), Image.Resampling.NEAREST).resize(image.size, Image.Resampling.BILINEAR)
    )


@pytest.mark.parametrize("mix", [_through_jpeg, _resized])
def test_values_that_were_mixed_before_they_were_saved_without_loss_are_refused(mix, tmp_path):
    require_unmixed(_levels(), "a.png")
    with pytest.raises(LabelError, match="mostly lie between those of their neighbours") as caught:
        require_unmixed(mix(_levels()), "a.png")
    assert caught.value.kind == "label_mixed"
    Image.fromarray(mix(_levels())).save(tmp_path / "a.png")
    with pytest.raises(LabelError, match="mostly lie between"):
        IndexLabels(judged=True).values(tmp_path / "a.png", b"")
    assert read_label(str(tmp_path / "a.png")).problem == "label_mixed"


@pytest.mark.parametrize(
    "values",
    [
        np.random.Generator(np.random.Philox(2)).integers(0, 30, (64, 96)),  # noise
        np.arange(96)[None].repeat(64, 0),  # a gradient
        np.where(np.add.outer(np.arange(64), np.arange(96)) % 7 == 0, np.arange(96) % 23, 0),  # points
        np.arange(96)[None].repeat(64, 0) // 4,  # stripes
    ],
    ids=["noise", "gradient", "points", "stripes"],
)
def test_drawn_values_are_not_taken_for_mixed_ones(values):
    require_unmixed(values.astype(np.uint8), "a.png")


def test_the_edges_of_a_mask_are_left_to_the_diagnosis_of_the_values():
    mask = (np.hypot(*np.mgrid[-32:32, -48:48]) < 30).astype(np.uint8) * 255
    found, _ = count_classes(_through_jpeg(mask), "a.png")
    assert len(found) > 8
