"""A model of the tiny dataset as one file of each format, made once."""

import io
import shutil
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mit_semseg import Segmenter
from mit_semseg.cli import main
from mit_semseg.data.images import normalize
from mit_semseg.export import write
from mit_semseg.models import ModelBuilder


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory):
    """The folder of a run whose network has random weights, and finds several classes in the photos."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder("resnet18dilated", imagenet=False).eval()
    decoder = ModelBuilder.build_decoder("ppm", channels=encoder.channels, num_class=3, dim=8).eval()
    with Image.open(tiny.folder / "validation" / "0.jpg") as photo:
        pixels = torch.from_numpy(np.array(photo.resize((96, 72)))).permute(2, 0, 1)[None]
    with torch.no_grad():
        scores = decoder.logits(encoder(normalize(pixels), return_feature_maps=True))
        classifier = [layer for layer in decoder.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        classifier.bias -= scores.mean((0, 2, 3))
    torch.save(encoder.state_dict(), folder / "encoder_epoch_1.pth")
    torch.save(decoder.state_dict(), folder / "decoder_epoch_1.pth")
    config = yaml.safe_load(tiny.config.read_text())
    config["MODEL"] |= {
        "arch_encoder": "resnet18dilated",
        "arch_decoder": "ppm",
        "fc_dim": 512,
        "decoder_dim": 8,
    }
    config["DIR"] = str(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="session")
def exported(model, tmp_path_factory):
    """An .onnx file, made by the command."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    with redirect_stdout(io.StringIO()) as out:
        assert main(["export", "--cfg", str(model / "config.yaml"), "--out", str(path)]) == 0
    assert out.getvalue().count("0 of ") == 10
    assert list(path.parent.iterdir()) == [path]
    return path


@pytest.fixture(scope="session", params=[".onnx", ".xml", ".pt2"])
def each_format(request, exported, model):
    """A file of each format. That for OpenVINO is converted from the .onnx file, which takes long to make."""
    path = exported.with_suffix(request.param)
    if path == exported:
        return path
    if request.param == ".xml":
        pytest.importorskip("openvino")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "shapes_for", lambda _: [(1, 1, 1), (2, 45, 77)])
        patch.setattr(write, "_write_onnx", lambda _graph, _metadata, new, _opset: shutil.copy(exported, new))
        Segmenter.load(model, device="cpu").export(path)
    return path
