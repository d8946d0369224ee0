"""mit-semseg data check on lists of windows of scenes."""

import json

import numpy as np
import pytest
from scene_files import damage_tile, landscape, transform_of, write_scene

rasterio = pytest.importorskip("rasterio")
SIDE = 64


@pytest.fixture
def scene(tmp_path):
    """A scene of 3 x 4 windows and its label."""
    label, pixels = landscape(3 * SIDE, 4 * SIDE, fields=24)
    write_scene(tmp_path / "a.tif", pixels)
    write_scene(tmp_path / "a_label.tif", label)
    return tmp_path


def write_list(folder, name, places, image="a.tif", label="a_label.tif", side=SIDE):
    lines = [
        {"fpath_img": image, "fpath_segm": label, "width": side, "height": side, "left": x, "top": y}
        for x, y in places
    ]
    path = folder / f"{name}.odgt"
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


TRAINING = [(0, 0), (64, 0), (0, 64), (64, 64), (0, 128), (64, 128)]
VALIDATION = [(128, 0), (192, 64)]


@pytest.fixture
def check(call, tmp_path):
    def check(*words):
        outcome = call("data", "check", *words, "--json", tmp_path / "report.json")
        assert outcome.code in (0, 1), outcome.err
        tree = json.loads((tmp_path / "report.json").read_text())
        found = {issue["kind"]: issue for issue in tree["problems"] + tree["notes"]}
        assert outcome.code == bool(tree["problems"])
        return tree, found, outcome.out

    return check


def test_the_pixels_of_each_class_are_counted_in_the_windows_alone(scene, check):
    lists = write_list(scene, "training", TRAINING), write_list(scene, "validation", VALIDATION)
    tree, _, out = check(*lists, "--num-class", 3)
    assert tree["ok"], out
    with rasterio.open(scene / "a_label.tif") as file:
        label = file.read(1)
    for number, places in enumerate((TRAINING, VALIDATION)):
        cut = np.concatenate([label[y : y + SIDE, x : x + SIDE].ravel() for x, y in places])
        assert [each["pixels"][number] for each in tree["classes"]] == np.bincount(cut, minlength=4)[
            1:
        ].tolist()
    assert tree["lists"][0]["image_modes"] == {"3 x uint8": 6}
    assert tree["lists"][0]["sizes"]["median"] == [SIDE, SIDE]


def test_windows_that_overlap_between_lists_are_a_problem_and_within_a_list_are_none(scene, check):
    training = write_list(scene, "training", [*TRAINING, (32, 32)])
    validation = write_list(scene, "validation", [*VALIDATION, (96, 16)])
    _, found, out = check(training, validation, "--num-class", 3)
    (place,) = found["overlap"]["places"]
    assert (place["line"], place["detail"]) == (3, "38% of its pixels")  # 32 x 48 of 64 x 64
    assert place["other"]["line"] == 2
    assert "validation.odgt:3 a.tif = training.odgt:2 a.tif" in out


def test_a_window_in_both_lists_is_a_leak_and_no_overlap(scene, check):
    training, validation = (write_list(scene, name, TRAINING[:2]) for name in ("training", "validation"))
    _, found, _ = check(training, validation, "--num-class", 3)
    assert found["leak"]["count"] == 2
    assert "overlap" not in found


def test_damaged_tiles_are_named_once_and_the_other_windows_are_counted(scene, check):
    damage_tile(scene / "a.tif", 5)
    training = write_list(scene, "training", [*TRAINING, (32, 32), (96, 96)])
    tree, found, _ = check(training, "--num-class", 3, "--workers", 0)
    assert found["damaged"]["count"] == 1
    assert "rows 64 to 127, columns 64 to 127" in found["damaged"]["places"][0]["detail"]
    assert tree["lists"][0]["images_read"] == 8


def test_values_beyond_the_classes_and_windows_outside_are_found_in_the_same_run(scene, check):
    with rasterio.open(scene / "a_label.tif", "r+") as file:
        file.write(np.full((1, 8, 8), 9, np.uint8), window=((0, 8), (64, 72)))
    training = write_list(scene, "training", [*TRAINING, (224, 0)])
    _, found, _ = check(training, "--num-class", 3)
    assert [place["line"] for place in found["beyond"]["places"]] == [2]
    assert {place["line"] for place in found["window_outside"]["places"]} == {7}


def test_scenes_of_another_system_size_or_type_and_missing_ones_are_named_together(scene, check):
    label, pixels = landscape(SIDE, SIDE, 1)
    other = "EPSG:32633"
    write_scene(scene / "b.tif", pixels, crs=other, transform=transform_of())
    write_scene(scene / "b_label.tif", label, crs=other, transform=transform_of(column=3))
    write_scene(scene / "c_label.tif", label.astype(np.int16) - 5)
    training = write_list(scene, "training", TRAINING)
    write_list(scene, "training", [(0, 0), (0, 0)], "b.tif", "b_label.tif")
    write_list(scene, "training", [(0, 0), (32, 32)], "a.tif", "c_label.tif", 32)
    write_list(scene, "training", [(0, 0), (32, 32)], "no.tif", "a_label.tif", 32)
    _, found, _ = check(training, "--num-class", 3)
    assert found["reference_systems"]["facts"] == ["EPSG:32632: 8 windows", "EPSG:32633: 2 windows"]
    assert "shifted by up to 3 pixels" in found["scene_mismatch"]["places"][0]["detail"]
    assert found["scene_mismatch"]["count"] == 1
    assert found["not_class_numbers"]["count"] == 1
    assert found["missing"]["count"] == 1


def test_bands_nodata_and_constant_bands_of_windows_are_reported(scene, check, tmp_path):
    label, pixels = landscape(SIDE, 2 * SIDE, 2)
    bands = np.concatenate([pixels.astype(np.uint16) + 1, np.full((SIDE, 2 * SIDE, 1), 7, np.uint16)], 2)
    bands[:16, :SIDE] = 0
    write_scene(scene / "d.tif", bands, nodata=0)
    write_scene(scene / "d_label.tif", label)
    training = write_list(scene, "training", [(0, 0), (64, 0)], "d.tif", "d_label.tif")
    config = tmp_path / "bands.yaml"
    config.write_text(
        f"DATASET:\n  channels: 4\n  num_class: 3\n  list_train: {training}\n  list_val: {training}\n"
        f"  root_dataset: {scene}\n"
    )
    _, found, _ = check(training, "--cfg", config)
    assert found["constant_band"]["places"][0]["detail"] == "band 4 is 7"
    assert found["nodata"]["facts"] == [f"{training}: 12.50% of the pixels"]
    _, found, _ = check(training, "--num-class", 3)
    assert found["needs_bands"]["count"] == 1
