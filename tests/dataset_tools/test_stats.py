import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mit_semseg.config import load_config
from mit_semseg.dataset_tools.stats import _with_keys
from mit_semseg.errors import UserError

LINES = {"mean": "  mean: [1.0, 2.0]", "std": "  std: [3.0, 4.0]"}


@pytest.fixture
def arrays(tmp_path):
    """A dataset of arrays with four bands, its config, and all their values."""
    rng = np.random.Generator(np.random.Philox(5))
    images = [
        rng.normal((10, 200, -5, 0.1), (1, 50, 3, 0.01), (20, 30, 4)).astype(np.float32) for _ in range(5)
    ]
    images[0][:5] = -9999
    images[1][0, 0, 2] = np.nan
    lines = []
    for k, image in enumerate(images):
        np.save(tmp_path / f"{k}.npy", image)
        Image.fromarray(np.ones((20, 30), np.uint8)).save(tmp_path / f"{k}.png")
        record = {"fpath_img": f"{k}.npy", "fpath_segm": f"{k}.png", "width": 30, "height": 20}
        lines.append(json.dumps(record) + "\n")
    (tmp_path / "list.odgt").write_text("".join(lines))
    (tmp_path / "config.yaml").write_text(
        f"# mine\nDATASET:\n  root_dataset: {tmp_path}\n  list_train: {tmp_path / 'list.odgt'}\n"
        "  channels: 4  # all\n  nodata: -9999\nTRAIN:\n  seed: 1\n"
    )
    values = np.concatenate([image.reshape(-1, 4) for image in images]).astype(np.float64)
    return tmp_path, values[(values != -9999).all(1) & ~np.isnan(values).any(1)]


def test_statistics_are_those_of_numpy_and_become_part_of_the_config(call, arrays):
    folder, values = arrays
    outcome = call("data", "stats", "--cfg", folder / "config.yaml", "--percentiles", 1, 99, "--workers", 0)
    assert outcome.code == 0, outcome.err
    found = load_config(str(folder / "config.yaml")).DATASET
    low, high = np.percentile(values, (1, 99), axis=0)
    clipped = values.clip(low, high)
    for key, wanted in (
        ("clip_low", low),
        ("clip_high", high),
        ("mean", clipped.mean(0)),
        ("std", clipped.std(0)),
    ):
        np.testing.assert_allclose(found[key], wanted, rtol=1e-4)
    text = (folder / "config.yaml").read_text()
    assert text.startswith("# mine\n")
    assert "  channels: 4  # all\n" in text
    again = call("data", "stats", "--cfg", folder / "config.yaml", "--percentiles", 1, 99, "--workers", 0)
    assert again.code == 0
    assert (folder / "config.yaml").read_text() == text


def test_statistics_in_a_file_of_their_own(call, arrays):
    folder, _ = arrays
    before = (folder / "config.yaml").read_text()
    outcome = call(
        "data", "stats", "--cfg", folder / "config.yaml", "--out", folder / "b.yaml", "--workers", 0
    )
    assert outcome.code == 0, outcome.err
    assert (folder / "config.yaml").read_text() == before
    assert set(yaml.safe_load((folder / "b.yaml").read_text())["DATASET"]) == {
        "mean",
        "std",
        "clip_low",
        "clip_high",
    }


def test_all_images_that_cannot_be_read_are_named_and_nothing_is_written(call, arrays):
    folder, _ = arrays
    before = (folder / "config.yaml").read_text()
    np.save(folder / "1.npy", np.zeros((20, 30, 3)))
    (folder / "3.npy").write_bytes(b"\x93NUMPY")
    outcome = call("data", "stats", "--cfg", folder / "config.yaml", "--workers", 0)
    assert outcome.code == 2
    assert "1.npy has 3 bands, but DATASET.channels is 4" in outcome.err
    assert "3.npy is" in outcome.err
    assert "2 of 5 images cannot be read" in outcome.err
    assert (folder / "config.yaml").read_text() == before


def test_a_constant_band_is_refused(call, arrays):
    folder, _ = arrays
    for k in range(5):
        image = np.load(folder / f"{k}.npy")
        image[..., 1] = 7
        np.save(folder / f"{k}.npy", image)
    outcome = call("data", "stats", "--cfg", folder / "config.yaml", "--workers", 0)
    assert (outcome.code, "Band 2 holds only the value 7" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "TRAIN:\n  seed: 1\n",
        "DATASET:\n  channels: 2\n",
        "DATASET:  # mine\n    mean:\n    - 1\n    - 2\n    channels: 2\n    std: [1,\n      2]\n\nDIR: x\n",
        "DATASET:\nTRAIN:\n  seed: 1\n",
    ],
)
def test_only_the_lines_of_the_keys_change(text):
    result = _with_keys(text, LINES, Path("a.yaml"))
    before, after = yaml.safe_load(text) or {}, yaml.safe_load(result)
    assert (after["DATASET"].pop("mean"), after["DATASET"].pop("std")) == ([1, 2], [3, 4])
    for section in before:
        left = before[section] or {}
        if section == "DATASET":
            left = {key: value for key, value in left.items() if key not in LINES}
        assert after[section] == left


def test_a_file_in_another_form_is_not_changed():
    with pytest.raises(UserError, match="--out"):
        _with_keys("DATASET: {channels: 2}\n", LINES, Path("a.yaml"))
