"""The decoder whose queries join the tokens of the encoder, in each runtime."""

import shutil

import pytest
import torch
from example_metadata import example_metadata

from mit_semseg.export import Options, write, write_model
from mit_semseg.inference import ScoringNetwork
from mit_semseg.models import ModelBuilder, SegmentationModule

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

SHAPES = [(1, 1, 1), (3, 31, 50), (1, 64, 97)]


def network():
    """Two blocks, the second with queries that attend to their masks; many pixels are far outside of both."""
    encoder = ModelBuilder.build_encoder(
        "dinov3_small", imagenet=False, options={"depth": 2, "width": 128, "heads": 2, "registers": 2}
    )
    decoder = ModelBuilder.build_decoder(
        "eomt",
        channels=encoder.channels,
        num_class=3,
        use_softmax=True,
        options={"queries": 2, "joint_blocks": 1, "upscales": 1},
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in [*encoder.parameters(), *decoder.parameters()]:
            if value.dim() > 1:
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
        decoder.mask_head[-1].weight.mul_(5)
    decoder.set_progress(0.0)
    module = SegmentationModule(encoder, decoder, None).eval()
    return ScoringNetwork.prepared(module, torch.device("cpu"))


def test_masks_by_queries_have_the_scores_of_pytorch(tmp_path, monkeypatch):
    net = network()
    parts = net.module.encoder, net.module.decoder
    about = example_metadata(3, stride=net.stride, grid=net.grid, softmax=False)
    onnx = tmp_path / "m.onnx"
    tables = [write_model(*parts, about, onnx, Options(output="scores"), shapes=SHAPES)]
    # OpenVINO's file is converted from this one.
    monkeypatch.setattr(write, "_write_onnx", lambda _graph, _metadata, new, _opset: shutil.copy(onnx, new))
    tables.append(write_model(*parts, about, tmp_path / "m.xml", Options(output="scores"), shapes=SHAPES))
    for rows in tables:
        assert [(row.shape, row.wrong) for row in rows] == [(shape, 0) for shape in SHAPES]
        assert max(row.difference for row in rows) < 5e-5  # onnxruntime's sigmoid alone gives 5e-3
