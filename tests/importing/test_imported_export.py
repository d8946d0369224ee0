"""Imported models as files for other runtimes: `mit-semseg export` compares each with PyTorch."""

import numpy as np
import pytest
from recorded_models import write

from mit_semseg import Segmenter

pytest.importorskip("safetensors")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.parametrize(
    ("name", "file"),
    [("segformer", "model.onnx"), ("mmseg pspnet", "model.pt2")],
)
def test_an_imported_model_is_exported_and_gives_the_same_labels(name, file, tmp_path, call):
    source = write(name, tmp_path / "source")
    assert call("import", source, "--out", tmp_path / "model").code == 0
    keys = ("--cfg", tmp_path / "model/config.yaml", "--out", tmp_path / file, "DATASET.imgSizes", 64)
    done = call("export", *keys, "--output", "scores")
    assert done.code == 0, done.err
    assert "Compared with PyTorch" in done.out
    image = np.random.default_rng(5).integers(0, 255, (75, 90, 3), dtype=np.uint8)
    ours = Segmenter.load(source, device="cpu", sizes=64)(image)
    theirs = Segmenter.load(tmp_path / file, sizes=64)(image)
    np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-4)
    assert (theirs.labels == ours.labels).mean() > 0.999
