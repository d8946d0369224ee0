"""mit-semseg data scenes: windows of GeoTIFFs, split by area, and a training on them."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scene_files import METRES, ORIGIN, damage_tile, landscape, transform_of, write_scene

from mit_semseg.data.classes import load_classes, numbered_classes

rasterio = pytest.importorskip("rasterio")


@pytest.fixture
def sources(tmp_path):
    """Two scenes that overlap by 60 columns."""
    for k, (height, width, column) in enumerate([(200, 260, 0), (150, 180, 200)]):
        label, pixels = landscape(height, width, k)
        place = transform_of(column=column)
        write_scene(tmp_path / "images" / f"s{k}.tif", pixels, transform=place)
        write_scene(tmp_path / "labels" / f"s{k}_label.tif", label, transform=place)
    return tmp_path


def ground(record):
    """The pixels of the ground that a window covers, as (left, top, right, bottom) in a common grid."""
    with rasterio.open(record["fpath_img"]) as file:
        left = round((file.transform.c - ORIGIN[0]) / METRES) + record["left"]
        top = round((ORIGIN[1] - file.transform.f) / METRES) + record["top"]
    return left, top, left + record["width"], top + record["height"]


def overlap(a, b):
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


@pytest.mark.parametrize(("window", "area", "seed"), [(32, 2, 0), (48, 1, 3), (40, 3, 1)])
def test_no_ground_is_in_training_and_validation(call, sources, window, area, seed):
    words = ("--window", window, "--area", area, "--seed", seed)
    outcome = call("data", "scenes", sources / "images", sources / "labels", sources / "out", *words)
    assert outcome.code == 0, outcome.err
    lists = [
        [json.loads(line) for line in (sources / "out" / f"{name}.odgt").read_text().splitlines()]
        for name in ("training", "validation")
    ]
    training, validation = ([ground(record) for record in records] for records in lists)
    assert training
    assert validation
    assert not any(overlap(a, b) for a in training for b in validation)
    assert {record["width"] for records in lists for record in records} == {window}
    covered = np.zeros((200, 380), bool)
    for left, top, right, bottom in training + validation:
        covered[top:bottom, left:right] = True
    assert covered[:200, :260].mean() > 0.9


def test_windows_without_labels_are_omitted_and_the_rest_trains(call, sources, tiny):
    with rasterio.open(sources / "labels" / "s0_label.tif", "r+") as file:
        file.write(np.zeros((1, 64, 260), np.uint8), window=((0, 64), (0, 260)))
    outcome = call(
        *("data", "scenes", sources / "images" / "s0.tif", sources / "labels" / "s0_label.tif"),
        *(sources / "out", "--window", 32, "--area", 1),
    )
    assert outcome.code == 0, outcome.err
    assert "windows without a labelled pixel" in outcome.out
    config = yaml.safe_load((sources / "out" / "config.yaml").read_text())
    assert (config["DATASET"]["window"], config["DATASET"]["num_class"]) == (32, 3)
    shared = ("--cfg", tiny.config, "--cfg", sources / "out" / "config.yaml", "DIR", sources / "run")
    words = ("TRAIN.num_epoch", 1, "TRAIN.epoch_iters", 1, "VAL.every", 1)
    outcome = call("train", "--gpus", "cpu", *shared, *words)
    assert outcome.code == 0, outcome.err
    samples = [file.name for file in (sources / "run/samples").rglob("*.png")]
    assert len(samples) == 4
    assert all(re.fullmatch(r"s0\.tif, rows \d+ to \d+, columns \d+ to \d+\.png", name) for name in samples)
    outcome = call("eval", "--gpus", "cpu", *shared)
    assert outcome.code == 0, outcome.err
    outcome = call("data", "check", "--cfg", sources / "out" / "config.yaml", "--workers", 0)
    assert outcome.code == 0, outcome.out + outcome.err
    assert "windows of the same scenes" in outcome.out


def test_damaged_tiles_and_impossible_values_are_all_named_and_nothing_is_written(call, sources):
    labels = sources / "labels" / "s0_label.tif", sources / "labels" / "s1_label.tif"
    damage_tile(labels[0], 1, 1)
    damage_tile(labels[0], 3, 2)
    with rasterio.open(labels[1]) as file:
        values = file.read(1).astype(np.int16)
    values[60:90] = -5
    write_scene(labels[1], values, transform=transform_of(column=200))
    outcome = call(
        *("data", "scenes", sources / "images", sources / "labels", sources / "out"),
        *("--window", 32, "--area", 1),
    )
    assert outcome.code == 2
    for text in (
        f"{labels[0]} is damaged: rows 64 to 127, columns 64 to 127 (",
        f"{labels[0]} is damaged: rows 128 to 191, columns 192 to 255 (",
        f"{labels[1]} holds the value -5 at row ",
    ):
        assert outcome.err.count(text) == 1, outcome.err
    assert outcome.err.count("is damaged") == 2
    assert not (sources / "out").exists()


def test_stats_name_each_damaged_tile_once_and_change_nothing(call, sources):
    outcome = call(
        *("data", "scenes", sources / "images", sources / "labels", sources / "out"),
        *("--window", 32, "--area", 1),
    )
    assert outcome.code == 0, outcome.err
    damage_tile(sources / "images" / "s0.tif", 1, 1)
    damage_tile(sources / "images" / "s1.tif", 0, 0)
    config = sources / "out" / "config.yaml"
    before = config.read_bytes()
    outcome = call("data", "stats", "--cfg", config, "--workers", 0)
    assert outcome.code == 2
    for text in (
        "s0.tif is damaged: rows 64 to 127, columns 64",
        "s1.tif is damaged: rows 0 to 63, columns 0",
    ):
        assert outcome.err.count(text) == 1, outcome.err
    assert outcome.err.count("is damaged") == 2
    assert "See line " in outcome.err
    assert config.read_bytes() == before


def test_scenes_of_several_reference_systems_and_labels_that_do_not_fit_are_all_named(call, sources):
    label, pixels = landscape(64, 64)
    write_scene(sources / "images" / "other.tif", pixels, crs="EPSG:32633")
    write_scene(sources / "labels" / "other.tif", label, crs="EPSG:32633")
    write_scene(
        sources / "labels" / "s1_label.tif", landscape(150, 180)[0], transform=transform_of(column=199)
    )
    outcome = call("data", "scenes", sources / "images", sources / "labels", sources / "out")
    assert outcome.code == 2
    assert "s1_label.tif does not match its image" in outcome.err
    assert "its pixels are shifted by up to 1 pixels" in outcome.err
    assert "The scenes have several reference systems: EPSG:326" in outcome.err
    assert "rio warp --dst-crs" in outcome.err
    assert not (sources / "out").exists()


@pytest.mark.parametrize(("unlabelled", "offset"), [(255, 1), (255, 0), (9, 1)])
def test_a_value_that_stands_for_unlabelled_is_no_class(call, sources, unlabelled, offset):
    for k in range(2):
        path = sources / "labels" / f"s{k}_label.tif"
        with rasterio.open(path, "r+") as file:
            values = file.read(1) - 1 + offset
            values[:40] = unlabelled
            file.write(values, 1)
    words = ("data", "scenes", sources / "images", sources / "labels", sources / "out", "--window", 32)
    words += ("--label-offset", offset)
    outcome = call(*words)
    if unlabelled == 255:
        assert (outcome.code, f"pass --ignore {unlabelled}" in outcome.err) == (2, True)
        assert not (sources / "out").exists()
    else:
        assert "Of the values 1 to 9 in the labels, 5 do not occur" in outcome.out
    outcome = call(*words, "--ignore", unlabelled)
    assert outcome.code == 0, outcome.err
    keys = yaml.safe_load((sources / "out/config.yaml").read_text())["DATASET"]
    assert (keys["num_class"], keys["ignore_label"]) == (3, unlabelled)
    lines = (sources / "out/training.odgt").read_text().splitlines()
    assert all(json.loads(line)["top"] >= 9 for line in lines)  # a window has 32 rows, and 40 are unlabelled


def test_a_value_to_ignore_among_the_classes_is_not_missing(call, sources):
    words = ("data", "scenes", sources / "images", sources / "labels", sources / "out", "--window", 32)
    outcome = call(*words, "--ignore", 2)
    assert outcome.code == 0, outcome.err
    assert "do not occur" not in outcome.out
    outcome = call(*words, "--ignore", 70000)
    assert outcome.code == 2
    assert "'70000' is not a whole number from 0 to 65535" in outcome.err


@pytest.mark.parametrize(
    ("offset", "names"), [(1, ("brick", "lawn", "pool")), (0, None), (2, ("lawn", "pool"))]
)
def test_classes_have_the_names_that_the_labels_have_for_their_values(call, sources, offset, names):
    with rasterio.open(sources / "labels" / "s0_label.tif", "r+") as file:
        file.update_tags(1, **{f"CLASS_{k}": name for k, name in enumerate(["brick", "lawn", "pool"], 1)})
    words = ("data", "scenes", sources / "images", sources / "labels", sources / "out", "--window", 32)
    outcome = call(*words, "--label-offset", offset)
    assert outcome.code == 0, outcome.err
    table = load_classes(sources / "out" / "classes.csv", len(names or range(4)))
    # No label has a name for 0, so with an offset of 0 the classes are numbered.
    assert table.names == (names or numbered_classes(4).names)


def test_a_share_of_none_is_reported_as_asked_for(call, sources):
    words = ("data", "scenes", sources / "images", sources / "labels", sources / "out", "--window", 32)
    outcome = call(*words, "--area", 1, "--val-share", 0)
    assert outcome.code == 0, outcome.err
    assert "No area validates, as --val-share 0 says. Train with VAL.every 0." in outcome.out
    assert "only one area" not in outcome.out


def test_scenes_too_coarse_for_a_window_in_an_area_are_named(call, sources):
    label, pixels = landscape(60, 60)
    place = rasterio.transform.from_origin(*ORIGIN, 10 * METRES, 10 * METRES)
    write_scene(sources / "images" / "coarse.tif", pixels, transform=place)
    write_scene(sources / "labels" / "coarse.tif", label, transform=place)
    outcome = call(
        *("data", "scenes", sources / "images", sources / "labels", sources / "out", "--window", 32)
    )
    assert outcome.code == 0, outcome.err
    assert "from 2 scenes." in outcome.out
    assert "Omitted: coarse.tif, too small for a window inside an area." in outcome.out


def test_more_scenes_than_files_may_be_open(call, tmp_path):
    resource = pytest.importorskip("resource")
    label, pixels = landscape(32, 32)
    for k in range(40):
        place = transform_of(column=32 * k)
        write_scene(tmp_path / "images" / f"s{k}.tif", pixels, transform=place)
        write_scene(tmp_path / "labels" / f"s{k}.tif", label, transform=place)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(tmp_path, os.O_RDONLY) for _ in range(30)]
    for number in free:
        os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, limits[1]))
    try:
        outcome = call(
            *("data", "scenes", tmp_path / "images", tmp_path / "labels", tmp_path / "out"),
            *("--window", 32, "--area", 1),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert outcome.code == 0, outcome.err
    assert "from 40 scenes." in outcome.out


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "float32"])
def test_labels_of_any_integers_are_read(call, sources, dtype):
    label, pixels = landscape(96, 128)
    values = label.astype(dtype)
    signed = dtype.startswith("int")
    values[:20] = -9999 if signed else 0
    image = write_scene(sources / "a.tif", pixels)
    words = ("data", "scenes", image, sources / "a_label.tif", sources / "out", "--window", 32, "--area", 1)
    write_scene(sources / "a_label.tif", values)
    outcome = call(*words)
    if dtype == "float32":
        assert "has 1 band of type float32, but a label has one band of integers" in outcome.err
        return
    if signed:
        assert "a_label.tif holds the value -9999 at row 0, column 0, but class numbers are 0" in outcome.err
        write_scene(sources / "a_label.tif", values, nodata=-9999)
        outcome = call(*words)
    assert outcome.code == 0, outcome.err
    keys = yaml.safe_load((sources / "out/config.yaml").read_text())["DATASET"]
    assert keys["num_class"] == 3


def test_an_image_without_a_label_is_named(call, sources):
    (sources / "labels" / "s1_label.tif").unlink()
    outcome = call("data", "scenes", sources / "images", sources / "labels", sources / "out")
    assert outcome.code == 2
    assert "s1.tif has no label in" in outcome.err


def test_without_coordinates_each_scene_has_its_own_areas(call, tmp_path):
    label, pixels = landscape(128, 128)
    image = write_scene(tmp_path / "a.tif", pixels, transform=False)
    mask = write_scene(tmp_path / "b.tif", label, transform=False)
    outcome = call("data", "scenes", image, mask, tmp_path / "out", "--window", 32, "--area", 1)
    assert outcome.code == 0, outcome.err
    assert "3 of 16 areas of 32 x 32 pixels validate." in outcome.out


def test_windows_of_scenes_with_bands_have_statistics_train_and_segment_a_scene(call, sources, tiny):
    rng = np.random.Generator(np.random.Philox(5))
    label, _ = landscape(96, 128)
    values = (label[..., None] * (900, 500, 300, 700)).astype(np.uint16) + rng.integers(0, 99, (96, 128, 4))
    image = write_scene(sources / "a.tif", values.astype(np.uint16))
    mask = write_scene(sources / "a_label.tif", label)
    assert call("data", "scenes", image, mask, sources / "out", "--window", 32, "--area", 1).code == 0
    (sources / "bands.yaml").write_text("DATASET: {channels: 3, bands: [4, 1, 2]}")
    bands = ("--cfg", sources / "out" / "config.yaml", "--cfg", sources / "bands.yaml")
    outcome = call("data", "stats", *bands, "--workers", 0, "--out", sources / "stats.yaml")
    assert outcome.code == 0, outcome.err
    mean = yaml.safe_load((sources / "stats.yaml").read_text())["DATASET"]["mean"]
    assert mean[1] > mean[0] > mean[2]
    shared = ("--cfg", tiny.config, *bands, "--cfg", sources / "stats.yaml", "DIR", sources / "run")
    outcome = call("train", "--gpus", "cpu", *shared, "TRAIN.num_epoch", 1, "TRAIN.epoch_iters", 1)
    assert outcome.code == 0, outcome.err
    outcome = call("test", "--imgs", image, "--gpu", "cpu", *shared, "TEST.result", sources / "made")
    assert outcome.code == 0, outcome.err
    with rasterio.open(sources / "made" / "a_labels.tif") as file:
        made = file.read(1)
    np.save(sources / "plain.npy", values.astype(np.uint16))
    words = (*shared, "TEST.result", sources / "made", "TEST.output", "labels")
    assert call("test", "--imgs", sources / "plain.npy", "--gpu", "cpu", *words).code == 0
    with Image.open(sources / "made" / "plain_labels.png") as expected:
        np.testing.assert_array_equal(made, np.asarray(expected))


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_killed_command_leaves_no_list_without_classes_and_config(call, sources, monkeypatch, written):
    class Killed(BaseException):
        pass

    replace, done = Path.replace, []

    def limited(self, target):
        if len(done) == written:
            raise Killed
        done.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", limited)
    with pytest.raises(Killed):
        call("data", "scenes", sources / "images", sources / "labels", sources / "out", "--window", 32)
    found = sorted(path.name for path in (sources / "out").iterdir())
    assert found == ["classes.csv", "config.yaml", "training.odgt"][:written]
