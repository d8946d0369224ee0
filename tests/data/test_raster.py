import sys

import numpy as np
import pytest
from band_files import FORMS, imagecodecs_png, tifffile, values_of, write_tiff
from PIL import Image

from mit_semseg.data import tiff
from mit_semseg.data.images import open_image
from mit_semseg.data.raster import raster_size, read_raster
from mit_semseg.errors import UserError


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_tiff_in_every_form_gives_the_pixels_that_were_written(tmp_path, form, dtype):
    values = values_of(dtype)
    path = write_tiff(tmp_path / "a.tif", values, form)
    found = read_raster(path)
    np.testing.assert_array_equal(found.values, values)
    assert found.values.dtype == dtype
    assert found.nodata is None
    assert raster_size(path) == (45, 37)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "float16", "float64"])
def test_other_types_keep_their_values(tmp_path, dtype):
    values = values_of(dtype, (9, 11, 2))
    np.testing.assert_array_equal(read_raster(write_tiff(tmp_path / "a.tif", values, "lzw")).values, values)


@pytest.mark.parametrize("bits", [10, 12])
def test_bits_that_are_packed_are_unpacked(tmp_path, bits):
    values = values_of("uint16", (13, 21, 1)) >> (16 - bits)
    tifffile.imwrite(tmp_path / "a.tif", values[..., 0], bitspersample=bits)
    np.testing.assert_array_equal(read_raster(tmp_path / "a.tif").values, values)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("form", ["tiled", "planar", "pages"])
def test_any_number_of_bands(tmp_path, bands, form):
    values = values_of("uint16", (12, 10, bands), seed=bands)
    np.testing.assert_array_equal(read_raster(write_tiff(tmp_path / "a.tif", values, form)).values, values)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_16_bits_keeps_all_of_them(tmp_path, channels):
    values = values_of("uint16", (9, 7, channels))
    (tmp_path / "a.png").write_bytes(imagecodecs_png(values))
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png").values, values)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_images_of_8_bits_are_those_of_pillow(tmp_path, mode):
    image = Image.fromarray(values_of("uint8", (9, 7, 4))).convert(mode)
    image.save(tmp_path / "a.png")
    found = read_raster(tmp_path / "a.png").values
    np.testing.assert_array_equal(np.squeeze(found), np.asarray(image))


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 5)])
def test_npy(tmp_path, shape):
    values = values_of("float32", shape)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read_raster(tmp_path / "a.npy").values.reshape(shape), values)
    assert raster_size(tmp_path / "a.npy") == (7, 9)


@pytest.mark.parametrize(
    ("text", "wanted"), [("0", 0), ("-9999", -9999), ("-3.4e+38", -3.4e38), ("none", None)]
)
def test_the_nodata_value_of_gdal(tmp_path, text, wanted):
    path = write_tiff(tmp_path / "a.tif", values_of("float32"), nodata=text)
    assert read_raster(path).nodata == wanted


@pytest.mark.parametrize("form", ["deflate", "planar tiled lzw", "zstd"])
def test_a_damaged_part_is_named_by_its_place(tmp_path, form):
    path = write_tiff(tmp_path / "a.tif", values_of("uint16"), form)
    with tifffile.TiffFile(path) as file:
        offsets, counts = file.pages[0].dataoffsets, file.pages[0].databytecounts
    number = len(offsets) // 2
    data = bytearray(path.read_bytes())
    data[offsets[number] : offsets[number] + counts[number]] = b"\xff" * counts[number]
    path.write_bytes(data)
    kind = "strip" if form == "zstd" else "tile"
    with pytest.raises(
        UserError, match=rf"a\.tif is damaged in {kind} {number + 1}.*, rows \d+ to \d+, columns"
    ):
        read_raster(path)


def test_the_place_of_a_damaged_tile_by_hand(tmp_path):
    path = write_tiff(
        tmp_path / "a.tif", values_of("uint16", (40, 40, 2)), "deflate"
    )  # 3 x 3 tiles of 16 x 16
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[5]
    data = bytearray(path.read_bytes())
    data[offset : offset + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(UserError, match="in tile 6, rows 16 to 31, columns 32 to 39 "):
        read_raster(path)


def test_a_truncated_file(tmp_path):
    path = write_tiff(tmp_path / "a.tif", values_of("uint16"), "tiled")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match=r"a\.tif is (damaged|truncated)"):
        read_raster(path)


def test_several_images_in_a_file_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 9, 7, 3), np.uint8), photometric="rgb")
    with pytest.raises(UserError, match="Save each image as a file of its own"):
        read_raster(tmp_path / "a.tif")


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 5), (0, 4)])
def test_arrays_of_other_shapes_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(UserError, match="is an array of shape"):
        read_raster(tmp_path / "a.npy")


def test_complex_numbers_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4), np.complex64))
    with pytest.raises(UserError, match="values of type complex64"):
        read_raster(tmp_path / "a.npy")


def test_a_pickle_in_an_array_is_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy is damaged"):
        read_raster(tmp_path / "a.npy")


def test_a_text_is_not_an_image(tmp_path):
    (tmp_path / "a.tif").write_text("II*")
    with pytest.raises(UserError, match=r"a\.tif"):
        read_raster(tmp_path / "a.tif")


def test_a_model_of_photos_says_what_a_file_with_bands_needs(tmp_path):
    path = write_tiff(tmp_path / "a.tif", values_of("uint16"), "tiled")
    with pytest.raises(UserError, match=r"set DATASET\.channels and compute the statistics"):
        open_image(path)


@pytest.mark.parametrize(("package", "form"), [("tifffile", "tiled"), ("imagecodecs", "lzw")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, package, form):
    path = write_tiff(tmp_path / "a.tif", values_of("uint16"), form)
    if package == "tifffile":
        monkeypatch.setitem(sys.modules, package, None)
    else:  # tifffile has imported it, and raises this error without it
        monkeypatch.setattr(tiff, "find_spec", lambda name: None)
        monkeypatch.setattr(
            tifffile.TiffPageSeries, "asarray", raising(ValueError("requires the 'imagecodecs' package"))
        )
    with pytest.raises(
        UserError, match=rf"needs the package {package}\. Run: pip install tifffile imagecodecs"
    ):
        read_raster(path)


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_a_model_of_photos_does_not_take_the_first_of_planar_bands(tmp_path):
    path = write_tiff(tmp_path / "a.tif", values_of("uint16"), "planar tiled lzw")
    with pytest.raises(UserError, match=r"a\.tif has 5 bands, of which Pillow reads the first one"):
        open_image(path)
