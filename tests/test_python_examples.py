"""The Python code in README and docs/python.md runs as it is."""

import re
import shutil

import pytest
import torch
from commands import ROOT

from mit_semseg.config import load_config
from mit_semseg.models import ModelBuilder


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny):
    """A folder with a photo and a model of ADE20K's classes, untrained, as the examples name them."""
    folder = tmp_path_factory.mktemp("place")
    run = folder / "ckpt" / "mine"
    run.mkdir(parents=True)
    (folder / "data").mkdir()
    for name in ("street.jpg", "data/street.jpg"):
        shutil.copy(tiny.folder / "validation" / "0.jpg", folder / name)
    cfg = load_config("ade20k-mobilenetv2dilated-c1_deepsup", ["DATASET.imgSizes", "32"])
    (run / "config.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)
    decoder = ModelBuilder.build_decoder("c1_deepsup", fc_dim=320, num_class=150)
    torch.save(encoder.state_dict(), run / "encoder_epoch_20.pth")
    torch.save(decoder.state_dict(), run / "decoder_epoch_20.pth")
    return folder


def examples(name):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), re.M | re.S)


def run(source, place, monkeypatch, names):
    monkeypatch.chdir(place)
    exec(compile(source, "example", "exec"), names)
    return names


def test_the_readme_segments_a_photo_in_five_lines(place, monkeypatch, capsys):
    pytest.importorskip("timm")  # the released model's encoder
    (only,) = examples("README.md")
    assert len([line for line in only.splitlines() if line]) == 5
    names = run(only, place, monkeypatch, {})
    assert names["segmentation"].labels.shape == (36, 48)
    assert capsys.readouterr().out.startswith("{'")
    assert (place / "street_classes.png").is_file()


def test_a_model_is_built_from_its_parts(place, monkeypatch):
    (example,) = (each for each in examples("docs/python.md") if "ModelBuilder" in each)
    probabilities = run(example, place, monkeypatch, {})["probabilities"]
    assert probabilities.shape == (1, 150, 36, 48)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, 36, 48))


def test_the_documentation_of_the_interface(place, monkeypatch):
    pytest.importorskip("timm")  # the released model's encoder
    names = {}
    for example in examples("docs/python.md"):
        run(example, place, monkeypatch, names)
    assert names["segmentation"].probabilities.shape == (11, 36, 48)
    assert (place / "a.png").is_file()
