"""Windows of scenes: their values, their resizing, and the pairs that training reads."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from scene_files import UTM, landscape, transform_of, write_scene

from mit_semseg.data.bands import Bands
from mit_semseg.data.label_coding import LabelCoding
from mit_semseg.data.resized_windows import read_resized
from mit_semseg.errors import UserError

rasterio = pytest.importorskip("rasterio")

from mit_semseg.data import scene_files  # noqa: E402
from mit_semseg.data.scene_files import is_scene  # noqa: E402
from mit_semseg.data.scene_pairs import Region, open_scenes, read_region  # noqa: E402
from mit_semseg.data.scene_pixels import ScenePixels  # noqa: E402
from mit_semseg.data.scenes import Scene, SceneError  # noqa: E402

RNG = np.random.Generator(np.random.Philox(3))


def noise(*shape, dtype=np.uint8):
    return RNG.integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("seed", range(8))
def test_a_window_of_a_resized_image_has_the_values_of_pillow_along_each_axis(seed):
    rng = np.random.Generator(np.random.Philox(seed))
    height, width, new = rng.integers(2, 200, 3)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    for target in ((height, new), (new, width)):
        whole = Image.fromarray(image).resize((int(target[1]), int(target[0])), Image.Resampling.BILINEAR)
        rows, columns = ((int(n) // 3, int(n)) for n in target)
        got = read_resized(
            lambda r, c, image=image: image[slice(*r), slice(*c)], (height, width), target, rows, columns
        )
        np.testing.assert_array_equal(got, np.asarray(whole)[slice(*rows), slice(*columns)])


def test_windows_of_a_resized_image_fit_together():
    image = noise(90, 70, 3)

    def window(rows, columns):
        return read_resized(lambda r, c: image[slice(*r), slice(*c)], (90, 70), (61, 83), rows, columns)

    whole = window((0, 61), (0, 83))
    np.testing.assert_array_equal(window((7, 50), (30, 83)), whole[7:50, 30:83])
    pillow = np.asarray(Image.fromarray(image).resize((83, 61), Image.Resampling.BILINEAR), int)
    assert np.abs(whole - pillow).max() <= 1  # Pillow may resize the columns first


@pytest.mark.parametrize("kind", ["rgb", "gray", "palette", "four bands", "strips"])
def test_windows_have_the_values_that_pillow_reads(tmp_path, kind):
    pixels = {"gray": noise(70, 90), "palette": noise(70, 90), "four bands": noise(70, 90, 4)}.get(kind)
    pixels = noise(70, 90, 3) if pixels is None else pixels
    extra = {"tiled": False, "blockysize": 16} if kind == "strips" else {}
    if kind == "four bands":
        extra = {"photometric": "RGB", "alpha": "NO"}
    path = write_scene(tmp_path / "a.tif", pixels, **extra)
    if kind == "palette":
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {k: (255 - k, k, k // 2, 255) for k in range(256)})
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    with Scene(path) as scene:
        np.testing.assert_array_equal(scene.read((10, 66), (5, 88)).pixels, expected[10:66, 5:88])


def test_what_a_scene_is(tmp_path):
    assert is_scene(write_scene(tmp_path / "a.tif", noise(20, 20, 3)))
    assert is_scene(write_scene(tmp_path / "b.TIF", noise(20, 20, 12), BIGTIFF="YES"))
    plain = write_scene(tmp_path / "c.tif", noise(20, 20, 3), transform=False)
    assert not is_scene(plain)
    plain.with_suffix(".tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    assert is_scene(plain)
    assert not is_scene(tmp_path / "missing.tif")
    for k, damaged in enumerate((b"II*\0nothing", b"", b"MM", b"II+\0" + bytes(4) + b"\xff" * 8, b"\x89PNG")):
        (tmp_path / f"d{k}.tif").write_bytes(damaged)
        assert not is_scene(tmp_path / f"d{k}.tif")


@pytest.mark.parametrize("big", ["YES", "NO"])
@pytest.mark.parametrize("order", ["BIG", "LITTLE"])
def test_the_size_of_a_scene_is_read_in_every_form_of_tiff(tmp_path, monkeypatch, big, order):
    file = write_scene(tmp_path / "a.tif", noise(20, 30, 3), BIGTIFF=big, ENDIANNESS=order)
    assert is_scene(file)
    plain = write_scene(tmp_path / "b.tif", noise(20, 30, 3), transform=False, BIGTIFF=big, ENDIANNESS=order)
    monkeypatch.setattr(scene_files, "LARGE", 599)
    assert is_scene(plain)
    monkeypatch.setattr(scene_files, "LARGE", 600)
    assert not is_scene(plain)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_bands_are_selected_and_missing_values_are_no_data(tmp_path, dtype):
    values = noise(40, 50, 5, dtype=dtype) * 100
    values[:10, :10] = 7
    bands = Bands(2, (4, 2), (), (100.0, 50.0), (1.0, 1.0), (0.0, 0.0), (25600.0, 25600.0))
    with Scene(write_scene(tmp_path / "a.tif", values, nodata=7), bands) as scene:
        window = scene.read((5, 30), (0, 50))
    expected = values[5:30, :, [3, 1]].astype(np.float32) / 25600
    np.testing.assert_allclose(window.pixels[window.valid], expected[window.valid], rtol=1e-5)
    assert not window.valid[:5, :10].any()
    assert window.valid[5:].all()
    with pytest.raises(SceneError, match="but the model takes 8-bit RGB"):
        Scene(tmp_path / "a.tif")


def peak_of(action):
    """The most bytes that NumPy has held at a time."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_scene_with_bands_is_never_held_as_a_whole(tmp_path):
    values = noise(1001, 1003, 12, dtype=np.uint16)
    numbers = ((0.0,) * 12, (255.0,) * 12)
    bands = Bands(12, (), (), (100.0,) * 12, (50.0,) * 12, *numbers, (0, 1, 2))
    whole = values.size * 4  # bytes, as the float32 that the network takes
    profile = {"blockxsize": 256, "blockysize": 256}
    with Scene(write_scene(tmp_path / "a.tif", values, **profile), bands) as scene:
        pixels = ScenePixels(scene, (1008, 1008))
        assert peak_of(lambda: pixels.read((0, 256), (0, 256))) < whole / 2
        assert peak_of(lambda: ScenePixels(scene, (1008, 1008))) < whole / 4
        part = pixels.read((300, 400), (500, 620))
        pictures = []
        scene_peak = peak_of(lambda: pictures.append(scene.overview(3)))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values / np.float32(255)).permute(2, 0, 1)[None], (1008, 1008), mode="bilinear"
    )
    expected = bands.normalize(expected[0, :, 300:400, 500:620])[None]
    torch.testing.assert_close(part, expected, atol=1e-3, rtol=0)
    assert scene_peak < whole / 4
    assert pictures[0].shape == (334, 335, 3)


def test_an_overview_has_pixels_of_each_step_across_the_windows_it_is_read_in(tmp_path, monkeypatch):
    rows, columns = np.mgrid[:210, :190]
    pixels = np.stack([rows, columns, rows], -1).astype(np.uint8)
    monkeypatch.setattr("mit_semseg.data.scenes._READ", 64)
    with Scene(write_scene(tmp_path / "a.tif", pixels)) as scene:
        found = scene.overview(4).astype(int)
    assert found.shape == (53, 48, 3)
    away = found[..., :2] - np.stack(np.mgrid[:53, :48] * 4, -1)
    assert away.min() >= 0
    assert away.max() < 4


def pair(folder, *, label_crs=UTM, label_transform=None, size=(70, 90)):
    label, pixels = landscape(*size, fields=16)
    image = write_scene(folder / "a.tif", pixels)
    return (
        image,
        write_scene(folder / "a_label.tif", label, crs=label_crs, transform=label_transform),
        label,
        pixels,
    )


def test_a_region_is_read_from_image_and_label(tmp_path):
    image, file, label, pixels = pair(tmp_path)
    region = Region((20, 52), (30, 62))
    found, values = read_region(image, file, region, LabelCoding(3), None)
    np.testing.assert_array_equal(found.unit, pixels[20:52, 30:62])
    np.testing.assert_array_equal(values, label[20:52, 30:62])
    with pytest.raises(UserError, match="has 90 x 70 pixels, but its window has the rows 60 to 91"):
        read_region(image, file, Region((60, 92), (0, 32)), LabelCoding(3), None)
    with pytest.raises(UserError, match="holds the value 3, but with 2 classes"):
        read_region(image, file, Region((0, 70), (0, 90)), LabelCoding(2), None)


def test_pixels_without_data_in_the_image_are_unlabelled(tmp_path):
    label, pixels = landscape(40, 40)
    pixels[:8] = 0
    image = write_scene(tmp_path / "a.tif", pixels, nodata=0)
    _, values = read_region(
        image, write_scene(tmp_path / "b.tif", label), Region((0, 40), (0, 40)), LabelCoding(3), None
    )
    assert (values[:8] == 0).all()
    np.testing.assert_array_equal(values[8:], label[8:])


def test_only_the_tiles_of_a_region_are_read(tmp_path):
    image, file, label, _ = pair(tmp_path, size=(256, 256))
    with rasterio.open(image) as opened:
        offset = int(opened.get_tag_item("BLOCK_OFFSET_3_3", "TIFF", bidx=1))
    data = bytearray(image.read_bytes())
    data[offset + 8 : offset + 100] = bytes(92)
    image.write_bytes(data)
    _, values = read_region(image, file, Region((0, 64), (64, 128)), LabelCoding(3), None)
    np.testing.assert_array_equal(values, label[:64, 64:128])
    with pytest.raises(SceneError, match="damaged in 1 of its tiles: rows 192 to 255, columns 192 to 255"):
        read_region(image, file, Region((192, 256), (192, 256)), LabelCoding(3), None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label_crs": "EPSG:32633"}, "its reference system is EPSG:32633, that of the image EPSG:32632"),
        ({"label_transform": "shifted"}, "its pixels are shifted by up to 5 pixels"),
    ],
)
def test_a_label_that_lies_elsewhere_is_refused(tmp_path, changed, message):
    if changed.get("label_transform"):
        changed = {"label_transform": transform_of(column=5)}
    image, label, *_ = pair(tmp_path, **changed)
    with pytest.raises(SceneError, match=message):
        open_scenes(image, label)
