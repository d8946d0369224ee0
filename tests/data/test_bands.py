from types import SimpleNamespace

import numpy as np
import pytest
import torch
from band_files import values_of, write_tiff

from mit_semseg.config import load_config
from mit_semseg.data.bands import Bands, BandSelection
from mit_semseg.errors import UserError


def bands_of(channels, **keys):
    numbers = range(channels)
    return Bands.of(
        SimpleNamespace(
            **{
                "channels": channels,
                "mean": [5.0 + k for k in numbers],
                "std": [2.0] * channels,
                "clip_low": [0.0] * channels,
                "clip_high": [10.0] * channels,
                **keys,
            }
        )
    )


def test_values_by_hand():
    bands = bands_of(1, clip_low=[100.0], clip_high=[300.0], mean=[150.0], std=[50.0])
    pixels = bands.select(np.array([[[50], [100], [200], [400]]], np.uint16), "a")
    unit = bands.unit(pixels)
    assert unit[0, :, 0].tolist() == [0, 0, 0.5, 1]
    normal = bands.normalize(torch.from_numpy(unit).permute(2, 0, 1))
    assert normal[0, 0].tolist() == pytest.approx([-1, -1, 1, 3])  # (100 - 150) / 50, (200 - 150) / 50, ...


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float16", "float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1])
def test_values_are_those_of_a_plain_formula(dtype, seed):
    values = values_of(dtype, (33, 70, 4), seed)
    low, high = np.percentile(values.astype(np.float64), [3, 95], axis=(0, 1))
    bands = bands_of(4, clip_low=low, clip_high=high, mean=(low + high) / 2, std=high - low)
    wanted = ((np.clip(values.astype(np.float64), low, high) - low) / (high - low)).astype(np.float32)
    np.testing.assert_allclose(bands.unit(bands.select(values, "a")), wanted, atol=2e-6)


@pytest.mark.parametrize("numbers", [(4, 3, 2, 8), (1,), (2, 3), (8, 1)])
@pytest.mark.parametrize("form", ["tiled", "planar"])
def test_bands_are_selected_and_ordered_counting_from_1(tmp_path, numbers, form):
    values = values_of("uint16", (9, 11, 8))
    path = write_tiff(tmp_path / "a.tif", values, form)
    found = BandSelection(len(numbers), numbers).read(path).values
    np.testing.assert_array_equal(found, values[..., [k - 1 for k in numbers]])


def test_a_pixel_has_no_data_if_all_of_its_bands_have_none():
    values = np.array([[[0, 0], [0, 7], [3, 4]]], np.uint16)
    pixels = BandSelection(2, nodata=(0,)).select(values, "a")
    assert pixels.without_data.tolist() == [[True, False, False]]
    assert pixels.absent.tolist() == [[[True, True], [True, False], [False, False]]]


def test_a_pixel_has_no_data_if_one_of_its_bands_is_not_a_number():
    values = np.array([[[1, np.nan], [np.inf, 2], [3, 4]]], np.float32)
    assert BandSelection(2).select(values, "a").without_data.tolist() == [[True, True, False]]


def test_only_the_selected_bands_decide():
    values = np.array([[[0, 5, np.nan]]], np.float32)
    assert BandSelection(2, (1, 2), (0,)).select(values, "a").without_data is None


def test_missing_values_become_the_mean():
    bands = bands_of(2, nodata=(255,), mean=[4.0, 6.0])
    unit = bands.unit(bands.select(np.array([[[255, 255], [255, 10]]], np.uint8), "a"))
    np.testing.assert_allclose(unit, [[[0.4, 0.6], [0.4, 1.0]]])
    assert not bands.normalize(torch.from_numpy(unit).permute(2, 0, 1))[:, 0, 0].any()


@pytest.mark.parametrize(
    ("dtype", "nodata", "missing"),
    [("uint8", -9999, False), ("uint8", 0.5, False), ("float32", -3.4e38, True), ("int16", -9999, True)],
)
def test_a_nodata_value_is_compared_in_the_type_of_the_file(dtype, nodata, missing):
    values = np.ones((1, 1, 1), dtype)
    if missing:
        values[:] = nodata
    assert (BandSelection(1).select(values, "a", nodata).without_data is not None) == missing


def test_pictures_show_the_display_bands_and_black_without_data():
    bands = bands_of(4, display_bands=(4, 1, 2))
    unit = np.array([[[0, 0.2, 0.5, 1], [1, 1, 1, 1]]], np.float32)
    assert bands.picture(unit, np.array([[False, True]])).tolist() == [[[255, 0, 51], [0, 0, 0]]]


def test_one_display_band_is_gray():
    picture = bands_of(2).picture(np.array([[[0.4, 0]]], np.float32), None)
    assert picture.tolist() == [[[102, 102, 102]]]


def test_images_are_rgb_unless_a_key_asks_for_bands():
    assert Bands.of(SimpleNamespace()) is None
    assert BandSelection.of(SimpleNamespace(channels=3, bands=())) is None
    assert BandSelection.of(SimpleNamespace(channels=3, bands=(3, 2, 1))) is not None


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (BandSelection(2, (1, 12)), "a has 8 bands, but DATASET.bands asks for band 12"),
        (
            BandSelection(4),
            "a has 8 bands, but DATASET.channels is 4. Set DATASET.channels 8, or DATASET.bands",
        ),
        (BandSelection(12), "a has 8 bands, but DATASET.channels is 12. Set DATASET.channels 8"),
    ],
)
def test_bands_that_do_not_exist_are_named(selection, message):
    with pytest.raises(UserError, match=message):
        selection.select(np.zeros((2, 2, 8)), "a")


def test_missing_statistics_are_answered_with_the_command():
    with pytest.raises(UserError, match="mit-semseg data stats"):
        Bands.of(SimpleNamespace(channels=4))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["DATASET.bands", "(4, 3, 2, 8)"], "Set DATASET.channels 4"),
        (["DATASET.channels", "2", "DATASET.bands", "(3, 3)"], "names a band twice"),
        (["DATASET.channels", "4", "DATASET.mean", "(1, 2)"], "DATASET.mean has 2 numbers"),
        (["DATASET.channels", "1", "DATASET.clip_low", "5", "DATASET.clip_high", "5"], "not below clip_high"),
        (
            ["DATASET.channels", "4", "DATASET.display_bands", "(9, 1, 2)"],
            "names band 9, which the model does not",
        ),
        (["DATASET.channels", "4", "DATASET.display_bands", "(1, 2)"], "takes one, or three"),
        (["DATASET.channels", "65"], "an integer >= 1 and <= 64"),
        (["DATASET.bands", "0"], "integers >= 1"),
    ],
)
def test_contradictions_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        load_config(None, keys)


def test_a_single_number_is_a_list():
    assert load_config(None, ["DATASET.nodata", "-9999.5"]).DATASET.nodata == (-9999.5,)


@pytest.mark.parametrize("nodata", [None, 7])
def test_the_mask_inside_a_tiff_hides_pixels_as_for_gdal(tmp_path, nodata):
    rasterio = pytest.importorskip("rasterio")
    values = np.random.Generator(np.random.Philox(2)).integers(8, 99, (3, 20, 30)).astype(np.uint16)
    values[:, :, :4] = 7
    valid = np.ones((20, 30), bool)
    valid[:5] = False
    size = {"width": 30, "height": 20, "count": 3, "dtype": "uint16"}
    place = rasterio.transform.from_origin(500_000, 5_300_000, 1, 1)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", transform=place, **size) as file,
    ):
        file.write(values)
        file.write_mask(valid)
    pixels = BandSelection(3, (3, 1, 2), () if nodata is None else (nodata,)).read(tmp_path / "a.tif")
    if nodata:
        valid[:, :4] = False
    np.testing.assert_array_equal(pixels.without_data, ~valid)
    np.testing.assert_array_equal(pixels.values, values[[2, 0, 1]].transpose(1, 2, 0))
