import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def bands(tmp_path):
    """A dataset of six arrays with four bands, and its config."""
    rng = np.random.Generator(np.random.Philox(1))
    lines = []
    for k in range(6):
        np.save(tmp_path / f"{k}.npy", rng.integers(1, 1000, (8, 9, 4)).astype(np.uint16))
        Image.fromarray(rng.integers(1, 3, (8, 9), np.uint8)).save(tmp_path / f"{k}.png")
        record = {"fpath_img": f"{k}.npy", "fpath_segm": f"{k}.png", "width": 9, "height": 8}
        lines.append(json.dumps(record) + "\n")
    (tmp_path / "a.odgt").write_text("".join(lines[:4]))
    (tmp_path / "b.odgt").write_text("".join(lines[4:]))
    (tmp_path / "config.yaml").write_text(
        f"DATASET:\n  root_dataset: {tmp_path}\n  list_train: {tmp_path}/a.odgt\n  list_val: "
        f"{tmp_path}/b.odgt\n  num_class: 2\n  channels: 4\n  nodata: 0\n"
    )
    return tmp_path


def check(call, folder):
    outcome = call(
        "data", "check", "--cfg", folder / "config.yaml", "--workers", 0, "--json", folder / "r.json"
    )
    report = json.loads((folder / "r.json").read_text())
    kinds = {issue["kind"]: issue for issue in [*report["problems"], *report["notes"]]}
    return outcome.code, kinds


def test_intact_images_with_bands_have_no_problem(call, bands):
    code, kinds = check(call, bands)
    assert (code, kinds) == (0, {})


def test_bands_and_types_that_differ_are_problems(call, bands):
    np.save(bands / "1.npy", np.load(bands / "1.npy").astype(np.float32))
    np.save(bands / "5.npy", np.load(bands / "5.npy")[..., :3])
    code, kinds = check(call, bands)
    assert code == 1
    assert set(kinds) == {"band_types", "band_missing"}
    assert "1 image of 4 bands of float32" in str(kinds["band_types"])
    assert "has 3 bands, but DATASET.channels is 4" in str(kinds["band_missing"])


def test_constant_bands_and_pixels_without_data_are_notes(call, bands):
    values = np.load(bands / "0.npy")
    values[..., 2] = 41
    values[0] = 0
    np.save(bands / "0.npy", values)
    code, kinds = check(call, bands)
    assert code == 0
    assert set(kinds) == {"constant_band", "nodata"}
    assert "band 3 is 41" in str(kinds["constant_band"])
    assert "3.12% of the pixels" in str(kinds["nodata"])  # 9 of 4 x 72


def test_a_damaged_file_is_named_and_the_rest_is_reported(call, bands):
    (bands / "2.npy").write_bytes((bands / "2.npy").read_bytes()[:-20])
    (bands / "3.npy").unlink()
    code, kinds = check(call, bands)
    assert code == 1
    assert set(kinds) == {"damaged", "missing"}


def test_without_a_config_images_with_bands_are_recognized(call, bands):
    outcome = call("data", "check", bands / "b.odgt", "--workers", 0)
    assert outcome.code == 1
    assert "4.npy (4 bands of type uint16)" in outcome.out
    assert "mit-semseg data stats" in outcome.out
