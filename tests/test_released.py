"""The weights that come with the project, as they are right after installation: without a network."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT
from PIL import Image

from mit_semseg import Segmenter
from mit_semseg.config import load_config

NAME = "camvid-efficientnet_lite0-upernet"
RELEASED = ROOT / "ckpt" / "released"
FOLDER = RELEASED / NAME
PICTURE = ROOT / "docs" / "images" / "street.png"  # the photo, its classes, and a legend below
CAMVID = ROOT.parent / "shared" / "data" / "camvid"
FIGURES = {  # mean IoU, and pixel accuracy in percent, of every 25th image
    "camvid-efficientnet_lite0-upernet": (0.7598, 95.12),
    "camvid-efficientnet_lite2-upernet": (0.7787, 95.77),
}
every = pytest.mark.parametrize("name", FIGURES)


def photo():
    with Image.open(PICTURE) as picture:
        return picture.convert("RGB").crop((0, 0, picture.width // 2, picture.width // 2 * 3 // 4))


def test_each_model_is_tested_here():
    assert {folder.name for folder in RELEASED.iterdir()} == set(FIGURES)


@every
def test_they_are_small_and_in_float16(name):
    files = [RELEASED / name / "encoder.pth", RELEASED / name / "decoder.pth"]
    assert sum(file.stat().st_size for file in files) <= 12e6
    for file in files:
        weights = torch.load(file, weights_only=True).values()
        assert {w.dtype for w in weights if w.is_floating_point()} == {torch.float16}
        assert all(torch.isfinite(w).all() for w in weights)


@every
def test_a_street_is_segmented_from_any_folder(name, script, tmp_path):
    photo().save(tmp_path / "street.jpg", quality=95)
    config = ROOT / "config" / f"{name}.yaml"
    words = ["--gpu", "cpu", "--imgs", "street.jpg", "--cfg", config, "TEST.output", "labels,side_by_side"]
    outcome = script("test.py", *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert "building: " in outcome.out
    with Image.open(tmp_path / "street_labels.png") as image:
        labels = np.array(image) - 1
    height, width = labels.shape
    names = ["sky", "building", "pole", "road", "pavement"]  # as in data/camvid_classes.csv
    assert (labels == names.index("building")).mean() > 0.4
    assert (labels[: height // 8, width // 3 : width // 2] == names.index("sky")).mean() > 0.9
    ground = labels[-height // 5 :, width // 4 : width // 2]
    assert np.isin(ground, [names.index("road"), names.index("pavement")]).mean() > 0.6
    with Image.open(tmp_path / "street.png") as picture:
        assert picture.size == (2 * width, height)


def test_a_checkpoint_of_ones_own_comes_first(tmp_path):
    cfg = load_config(NAME, ["DIR", str(tmp_path / NAME)])
    shipped = Segmenter.load(cfg)(photo())
    Path(cfg.DIR).mkdir()
    for part in ("encoder", "decoder"):
        own = torch.load(FOLDER / f"{part}.pth", weights_only=True)
        if part == "decoder":  # other scores, so that the labels tell which were taken
            own = {name: -w if w.ndim == 4 and len(w) == 11 else w for name, w in own.items()}
        torch.save(own, Path(cfg.DIR) / f"{part}_epoch_1.pth")
    assert (Segmenter.load(cfg)(photo()).labels != shipped.labels).mean() > 0.5


def test_another_model_that_fits_them_is_told(script, tmp_path):
    photo().save(tmp_path / "street.jpg")
    words = ["--gpu", "cpu", "--imgs", "street.jpg", "--cfg", NAME, "MODEL.arch_encoder"]
    outcome = script("test.py", *words, "timm/efficientnet_lite0", cwd=tmp_path)
    assert outcome.code == 0
    told = "for MODEL.arch_encoder timm/tf_efficientnet_lite0, but the config says timm/efficientnet_lite0. "
    assert told in outcome.err + outcome.out


def test_a_checkpoint_that_is_asked_for_is_not_replaced_by_them(call):
    words = ["--gpu", "cpu", "--imgs", PICTURE, "--cfg", NAME, "TEST.checkpoint", "best.pth"]
    outcome = call("test", *words, "DIR", f"nowhere/{NAME}")
    assert outcome.code == 2
    assert "The weights that come with the project are used if TEST.checkpoint is empty" in outcome.err


@every
@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs the CamVid images")
def test_their_scores_on_a_few_images_are_those_of_the_day_they_were_released(name, call, tmp_path):
    """Those on all images are on their cards; benchmarks/released.py compares them."""
    lines = (CAMVID / "validation.odgt").read_text().splitlines(keepends=True)
    (tmp_path / "few.odgt").write_text("".join(lines[::25]))
    words = ["--gpus", "cpu", "--cfg", name, "DIR", tmp_path / name, "DATASET.root_dataset", CAMVID]
    outcome = call("eval", *words, "DATASET.list_val", tmp_path / "few.odgt")
    assert outcome.code == 0, outcome.err
    found = re.search(r"Mean IoU: ([\d.]+), Accuracy: ([\d.]+)%", outcome.out)
    assert float(found[1]) == pytest.approx(FIGURES[name][0], abs=5e-4)
    assert float(found[2]) == pytest.approx(FIGURES[name][1], abs=0.05)
