"""mit-semseg data check on windows of scenes, as mit-semseg data scenes lists them."""

import json

import numpy as np
import pytest
from scene_files import damage_tile, landscape, transform_of, write_scene

from mit_semseg.dataset_tools.check.ground import overlaps

rasterio = pytest.importorskip("rasterio")


@pytest.fixture
def scenes(tmp_path):
    """Two scenes with labels."""
    for k in range(2):
        label, pixels = landscape(192, 192, k)
        place = transform_of(column=1000 * k)
        write_scene(tmp_path / f"s{k}.tif", pixels, transform=place)
        write_scene(tmp_path / f"s{k}_label.tif", label, transform=place)
    return tmp_path


def listed(folder, name, *windows):
    """Write a list of windows of 64 pixels, each given as (scene, top, left)."""
    lines = [
        json.dumps(
            {
                **{"fpath_img": f"s{scene}.tif", "fpath_segm": f"s{scene}_label.tif"},
                **{"width": 64, "height": 64, "left": left, "top": top},
            }
        )
        for scene, top, left in windows
    ]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def check(call, *words):
    """The exit code, and the places of each problem and note: (list's line, file, detail)."""
    folder = words[0].parent
    outcome = call("data", "check", *words, "--workers", 0, "--json", folder / "report.json")
    assert outcome.code in (0, 1), outcome.err
    report = json.loads((folder / "report.json").read_text())
    issues = {issue["kind"]: issue for issue in [*report["problems"], *report["notes"]]}
    issues.pop("num_class_inferred", None)
    return outcome, issues


def set_label(path, values, rows, columns):
    with rasterio.open(path, "r+") as file:
        file.write(values[None], window=(rows, columns))


def places(issue):
    return [(place["line"], place["file"], place["detail"]) for place in issue["places"]]


def test_intact_windows_are_counted_as_images_are(call, scenes):
    outcome, issues = check(call, listed(scenes, "a.odgt", (0, 0, 0), (1, 0, 64)))
    assert (outcome.code, issues) == (0, {})
    report = json.loads((scenes / "report.json").read_text())
    labels = [landscape(192, 192, k)[0] for k in range(2)]
    seen = np.concatenate([labels[0][:64, :64].ravel(), labels[1][:64, 64:128].ravel()])
    assert [each["pixels"] for each in report["classes"]] == [[int((seen == k).sum())] for k in (1, 2, 3)]


def test_windows_that_share_ground_with_another_list_are_named_with_their_share(call, scenes):
    first = listed(scenes, "a.odgt", (0, 0, 0), (1, 0, 0))
    second = listed(scenes, "b.odgt", (0, 0, 32), (0, 64, 0), (1, 0, 0))
    outcome, issues = check(call, first, second)
    assert outcome.code == 1
    assert places(issues["overlap"]) == [(1, "image", "50% of it")]
    assert issues["overlap"]["places"][0]["other"]["window"] == [0, 0, 64, 64]
    assert places(issues["leak"]) == [(3, "image", "")]
    assert "s0.tif [rows 0 to 63, columns 32 to 95] = a.odgt:1 s0.tif [rows 0 to 63" in outcome.out


def test_ground_is_compared_between_files(call, scenes):
    label, pixels = landscape(192, 192, 5)
    write_scene(scenes / "s1.tif", pixels, transform=transform_of(column=100))
    write_scene(scenes / "s1_label.tif", label, transform=transform_of(column=100))
    _, issues = check(
        call, listed(scenes, "a.odgt", (0, 0, 100)), listed(scenes, "b.odgt", (1, 0, 0), (1, 0, 64))
    )
    assert places(issues["overlap"]) == [(1, "image", "100% of it")]


def test_a_window_listed_twice_is_named(call, scenes):
    _, issues = check(call, listed(scenes, "a.odgt", (0, 0, 0), (0, 64, 0), (0, 0, 0)))
    assert places(issues["duplicate_record"]) == [(3, "image", "")]


def test_a_damaged_tile_is_named_once_and_the_other_windows_are_read(call, scenes):
    damage_tile(scenes / "s0.tif", 1, 2)
    damage_tile(scenes / "s1_label.tif", 0, 0)
    windows = [(0, 128, 64), (0, 100, 40), (0, 0, 0), (1, 0, 0), (1, 10, 10), (1, 128, 128)]
    outcome, issues = check(call, listed(scenes, "a.odgt", *windows))
    assert outcome.code == 1
    assert [(line, file) for line, file, _ in places(issues["damaged"])] == [(1, "image"), (4, "label")]
    details = [detail.split(": ")[0] for *_, detail in places(issues["damaged"])]
    assert details == ["rows 128 to 191, columns 64 to 127", "rows 0 to 63, columns 0 to 63"]
    assert issues["damaged"]["facts"] == [
        "s0.tif: 2 windows cannot be read.",
        "s1_label.tif: 2 windows cannot be read.",
    ]
    report = json.loads((scenes / "report.json").read_text())
    assert report["lists"][0]["images_read"] == 4


def test_a_missing_scene_and_a_label_that_lies_elsewhere_are_named_once(call, scenes):
    (scenes / "s0.tif").unlink()
    label, _ = landscape(192, 192, 1)
    write_scene(scenes / "s1_label.tif", label, transform=transform_of(column=1005))
    windows = [(0, 0, 0), (0, 64, 0), (1, 0, 0), (1, 64, 0)]
    outcome, issues = check(call, listed(scenes, "a.odgt", *windows))
    assert outcome.code == 1
    assert [line for line, *_ in places(issues["missing"])] == [1]
    assert [line for line, *_ in places(issues["misplaced"])] == [3]
    assert "shifted by up to 5 pixels" in outcome.out


def test_a_window_that_leaves_its_scene_is_named(call, scenes):
    _, issues = check(call, listed(scenes, "a.odgt", (0, 160, 0), (0, 0, 0)))
    assert [line for line, *_ in places(issues["outside"])] == [1, 1]  # of the image and of the label


def test_values_beyond_the_classes_and_off_by_one_are_found_in_windows(call, scenes):
    set_label(scenes / "s0_label.tif", np.full((8, 8), 9, np.uint8), (0, 8), (0, 8))
    outcome, issues = check(call, listed(scenes, "a.odgt", (0, 0, 0), (0, 64, 64)), "--num-class", 3)
    assert outcome.code == 1
    assert places(issues["beyond"]) == [(1, "label", "value 9")]
    write_scene(scenes / "s1_label.tif", landscape(192, 192, 1)[0] - 1, transform=transform_of(column=1000))
    _, issues = check(call, listed(scenes, "a.odgt", (1, 0, 0), (1, 64, 64)), "--num-class", 3)
    assert "off_by_one" in issues


def test_impossible_label_values_are_named_for_every_file(call, scenes):
    for k in range(2):
        label, _ = landscape(192, 192, k)
        label = label.astype(np.int16)
        label[k, 5] = -7 - k
        write_scene(scenes / f"s{k}_label.tif", label, transform=transform_of(column=1000 * k))
    windows = [(0, 0, 0), (0, 0, 2), (1, 0, 0)]
    _, issues = check(call, listed(scenes, "a.odgt", *windows))
    assert places(issues["label_impossible"]) == [
        (1, "label", "the value -7 at row 0, column 5"),
        (3, "label", "the value -8 at row 1, column 5"),
    ]


def test_several_reference_systems_and_classes_only_in_validation_are_reported(call, scenes):
    label, pixels = landscape(192, 192, 1)
    write_scene(scenes / "s1.tif", pixels, crs="EPSG:32633")
    write_scene(scenes / "s1_label.tif", label, crs="EPSG:32633")
    set_label(scenes / "s0_label.tif", np.ones((64, 64), np.uint8), (0, 64), (0, 64))
    training = listed(scenes, "a.odgt", (0, 0, 0))
    validation = listed(scenes, "b.odgt", (1, 0, 0), (0, 64, 64))
    config = scenes / "config.yaml"
    config.write_text(
        f"DATASET:\n  root_dataset: {scenes}\n  list_train: {training}\n  list_val: {validation}\n"
        "  num_class: 3\n"
    )
    outcome, issues = check(call, training, validation, "--cfg", config)
    assert outcome.code == 1
    assert "EPSG:32633 (1 scene, such as s1.tif)" in str(issues["several_systems"]["facts"])
    assert issues["shared_scene"]["facts"] == [f"{scenes}/s0.tif: 1 training and 1 validation windows"]
    assert "class_untrained" in issues


def test_bands_of_windows_are_checked(call, scenes):
    rng = np.random.Generator(np.random.Philox(1))
    pixels = rng.integers(1, 4000, (192, 192, 5)).astype(np.uint16)
    pixels[:64, :64, 2] = 12
    pixels[64:128, :64] = 0
    write_scene(scenes / "s0.tif", pixels, nodata=0)
    write_scene(scenes / "s1.tif", pixels[..., :3], transform=transform_of(column=1000))
    config = scenes / "config.yaml"
    config.write_text("DATASET:\n  num_class: 3\n  channels: 2\n  bands: [5, 3]\n")
    windows = [(0, 0, 0), (0, 64, 0), (1, 0, 0)]
    outcome, issues = check(call, listed(scenes, "a.odgt", *windows), "--cfg", config, "--root", scenes)
    assert outcome.code == 1
    assert places(issues["constant_band"]) == [(1, "image", "band 3 is 12")]
    assert places(issues["mostly_nodata"]) == [(2, "image", "100.0% of its pixels")]
    assert [line for line, *_ in places(issues["band_missing"])] == [3]
    assert "2 images of 5 bands of uint16" in issues["band_types"]["facts"][0]


def test_overlaps_name_the_one_that_covers_most():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10]], float)
    others = np.array([[9, 0, 19, 10], [4, 0, 14, 10], [30, 0, 40, 10]], float)
    systems, theirs = np.array([0, 0, 1]), np.zeros(3, int)
    assert list(overlaps(boxes, systems, others, theirs)) == [(0, 1, 0.6)]
