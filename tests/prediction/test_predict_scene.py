"""test.py on GeoTIFFs: windows in, a GeoTIFF and polygons out, with the labels of the whole image."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import ROOT
from PIL import Image
from scene_files import GEOGRAPHIC, UTM, landscape, write_scene

from mit_semseg import Segmenter
from mit_semseg.config import load_config, with_keys

rasterio = pytest.importorskip("rasterio")

TILES = {"INFERENCE__tile": 64, "INFERENCE__overlap": 16}


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture
def scene(tmp_path):
    """A scene of 170 x 130 pixels, and the same pixels as a PNG."""
    _, pixels = landscape(130, 170, fields=40)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    return write_scene(tmp_path / "scene.tif", pixels)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        TILES,
        {"DATASET__imgSizes": "(130,)", "DATASET__imgMaxSize": 170, **TILES},
        {"DATASET__imgSizes": "(75,110)", "DATASET__imgMaxSize": 400, "INFERENCE__flip": True, **TILES},
    ],
    ids=["whole", "tiles", "own size", "two scales, mirrored"],
)
def test_labels_are_those_of_the_whole_image_pixel_by_pixel(segment, scene, tmp_path, keys):
    for name in ("scene.tif", "plain.png"):
        outcome = segment(tmp_path / name, TEST__output="labels", **keys)
        assert outcome.code == 0, outcome.err
    made = read(tmp_path / "out" / "scene_labels.tif")
    with Image.open(tmp_path / "out" / "plain_labels.png") as image:
        np.testing.assert_array_equal(made, np.asarray(image))
    assert len(np.unique(made)) > 1


def test_without_a_tile_a_scene_has_the_tiles_that_keep_the_memory_low(segment, scene, tmp_path, monkeypatch):
    made = {}
    for tile in (64, 0):
        if not tile:
            monkeypatch.setattr("mit_semseg.inference.scene.TILE", 64)
        outcome = segment(
            scene, TEST__output="labels", TEST__result=tmp_path / str(tile), INFERENCE__tile=tile
        )
        assert outcome.code == 0, outcome.err
        made[tile] = read(tmp_path / str(tile) / "scene_labels.tif")
    np.testing.assert_array_equal(made[0], made[64])


def test_with_a_window_everything_is_scored_at_the_scale_of_training(segment, trained, scene, tmp_path):
    whole = {"DATASET__imgSizes": "(130,)", "DATASET__imgMaxSize": 170, **TILES}
    assert segment(tmp_path / "plain.png", TEST__output="labels", **whole).code == 0
    with Image.open(tmp_path / "out" / "plain_labels.png") as image:
        wanted = np.asarray(image)
    window = {"DATASET__window": 65, "DATASET__imgSizes": "(65,)", "DATASET__imgMaxSize": 65, **TILES}
    for name in ("scene.tif", "plain.png"):
        assert segment(tmp_path / name, TEST__output="labels", **window).code == 0
    np.testing.assert_array_equal(read(tmp_path / "out" / "scene_labels.tif"), wanted)
    with Image.open(tmp_path / "out" / "plain_labels.png") as image:
        np.testing.assert_array_equal(np.asarray(image), wanted)
    cfg = with_keys(
        load_config(str(trained / "config.yaml")),
        {"DIR": str(trained), **{key.replace("__", "."): value for key, value in window.items()}},
    )
    found = Segmenter.load(cfg, device="cpu")(tmp_path / "scene.tif").labels
    np.testing.assert_array_equal(found + 1, wanted)


def test_a_scene_that_is_scored_much_coarser_is_reported(segment, tmp_path):
    _, pixels = landscape(200, 250, fields=40)
    outcome = segment(write_scene(tmp_path / "a.tif", pixels), TEST__output="labels")
    assert "a.tif has 250 x 200 pixels, but is scored at 56 x 40" in outcome.out
    assert "Set DATASET.window" in outcome.out


@pytest.mark.parametrize("crs", [UTM, GEOGRAPHIC])
def test_the_labels_are_a_tiled_compressed_geotiff_with_coordinates_and_classes(segment, tmp_path, crs):
    _, pixels = landscape(70, 90)
    source = write_scene(tmp_path / "scene.tif", pixels, crs=crs)
    assert segment(source).code == 0  # the default output is a picture; the labels are written, too
    with rasterio.open(tmp_path / "out" / "scene_labels.tif") as file, rasterio.open(source) as original:
        assert (file.crs, file.transform, file.shape) == (original.crs, original.transform, original.shape)
        assert file.profile["tiled"]
        assert file.profile["compress"] == "deflate"
        assert file.nodata == 0
        assert file.colormap(1)[2] == (60, 180, 60, 255)
        assert [file.tags(1)[f"CLASS_{k}"] for k in (1, 2, 3)] == ["brick", "lawn", "pool"]
    with Image.open(tmp_path / "out" / "scene.png") as picture:
        assert picture.size == (180, 70)


def test_pixels_without_data_have_no_class(segment, tmp_path):
    _, pixels = landscape(70, 90)
    pixels[:30, :40] = 0
    assert segment(write_scene(tmp_path / "a.tif", pixels, nodata=0)).code == 0
    labels = read(tmp_path / "out" / "a_labels.tif")
    np.testing.assert_array_equal(labels == 0, (pixels == 0).all(-1))


@pytest.mark.parametrize("output", ["geojson", "gpkg"])
@pytest.mark.parametrize("crs", [UTM, GEOGRAPHIC])
def test_polygons_cover_the_labels_with_class_name_and_area(segment, tmp_path, output, crs):
    raw = pytest.importorskip("pyogrio.raw")
    shapely = pytest.importorskip("shapely")
    _, pixels = landscape(60, 80)
    source = write_scene(tmp_path / "a.tif", pixels, crs=crs)
    outcome = segment(source, TEST__output=f"labels,{output}")
    assert outcome.code == 0, outcome.err
    meta, _, geometry, fields = raw.read(tmp_path / "out" / f"a_polygons.{output}")
    table = dict(zip(meta["fields"], fields, strict=True))
    labels = read(tmp_path / "out" / "a_labels.tif")
    assert shapely.is_valid(shapely.from_wkb(geometry)).all()
    assert {"brick": 1, "lawn": 2, "pool": 3}.items() >= dict(
        zip(table["name"], table["class"], strict=True)
    ).items()
    # A pixel is 0.2 m x 0.2 m, or 1e-5 degrees: 1.112 m north by 0.746 m east at this latitude.
    pixel = 0.04 if crs == UTM else 1.1119 * 0.7478
    for value in np.unique(labels):
        area = table["area_m2"][table["class"] == value].sum()
        assert area == pytest.approx(pixel * (labels == value).sum(), rel=1e-6 if crs == UTM else 5e-3)


def test_geojson_has_longitude_and_latitude(segment, tmp_path):
    pytest.importorskip("pyogrio")
    pytest.importorskip("shapely")
    _, pixels = landscape(40, 40)
    assert segment(write_scene(tmp_path / "a.tif", pixels), TEST__output="geojson").code == 0
    found = json.loads((tmp_path / "out" / "a_polygons.geojson").read_text())
    longitude, latitude = found["features"][0]["geometry"]["coordinates"][0][0]
    assert 8.99 < longitude < 9.01
    assert 47.8 < latitude < 47.9


def test_a_damaged_tile_is_named_and_the_other_scenes_are_done(segment, scene, tmp_path):
    good = write_scene(tmp_path / "good.tif", landscape(60, 60)[1])
    data = bytearray(scene.read_bytes())
    with rasterio.open(scene) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_2_1", "TIFF", bidx=1))  # column 2, row 1
    data[offset + 8 : offset + 200] = bytes(192)
    scene.write_bytes(data)
    outcome = segment(scene, good, TEST__output="labels", **TILES)
    assert outcome.code == 1
    assert f"{scene} is damaged in 1 of its tiles: rows 64 to 127, columns 128 to 169" in outcome.err
    assert "1 of 2 scenes could not be segmented." in outcome.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tif")) == ["good_labels.tif"]
    assert not list((tmp_path / "out").glob(".*.part"))


def test_without_rasterio_the_command_to_install_it_is_named(segment, scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    outcome = segment(scene)
    assert outcome.code == 2
    assert "needs the package rasterio. Run: pip install rasterio pyogrio shapely" in outcome.err


def test_a_tiff_without_coordinates_is_an_image(segment, tmp_path):
    source = write_scene(tmp_path / "a.tif", landscape(40, 40)[1], transform=False)
    assert segment(source, TEST__output="labels").code == 0
    assert (tmp_path / "out" / "a_labels.png").is_file()
    outcome = segment(source, TEST__output="geojson")
    assert outcome.code == 2
    assert "is a plain image. Plain images have no output geojson" in outcome.err


def test_own_labels_are_not_inputs_and_foreign_files_stay(segment, scene, tmp_path):
    theirs = write_scene(tmp_path / "scene_labels.tif", landscape(130, 170)[0])
    before = theirs.read_bytes()
    assert segment(scene, out=tmp_path).code == 0
    assert theirs.read_bytes() == before
    made = tmp_path / "scene_segmented_labels.tif"
    assert made.is_file()
    outcome = segment(made)
    assert outcome.code == 2
    assert "are results of test.py itself" in outcome.err


def test_a_finished_scene_is_skipped_when_resumed(segment, scene, tmp_path):
    assert segment(scene, TEST__output="labels").code == 0
    made = tmp_path / "out" / "scene_labels.tif"
    before = made.stat().st_mtime_ns
    assert segment(scene, "--resume", TEST__output="labels").code == 0
    assert made.stat().st_mtime_ns == before


def test_a_killed_run_leaves_no_labels_and_the_next_completes_them(tiny, trained, segment, tmp_path):
    _, pixels = landscape(64, 64)
    big = write_scene(tmp_path / "big.tif", np.tile(pixels, (8, 8, 1)))
    keys = {"DATASET__imgSizes": "(512,)", "DATASET__imgMaxSize": 512, **TILES}
    words = tiny.overrides(DIR=trained, TEST__result=tmp_path / "out", TEST__output="labels", **keys)
    command = [sys.executable, ROOT / "test.py", "--imgs", big, "--gpu", "cpu", "--cfg", tiny.config, *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    part = tmp_path / "out" / ".big_labels.tif.part"
    deadline = time.monotonic() + 60
    while not part.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert part.exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "big_labels.tif").exists()
    fast = {"DATASET__imgSizes": "(32,)", "DATASET__imgMaxSize": 64}
    assert segment(big, "--resume", TEST__output="labels", **fast).code == 0
    assert (read(tmp_path / "out" / "big_labels.tif") > 0).all()
    assert not part.exists()
