"""The keys of scoring reach it, in evaluation and in prediction."""

import numpy as np
import pytest
import torch
from PIL import Image
from plain import plain_probabilities

from mit_semseg.config import load_config
from mit_semseg.data.datasets import ValDataset
from mit_semseg.evaluation.evaluate import evaluate
from mit_semseg.inference.checkpoints import trained_weights
from mit_semseg.inference.load import build_scoring, model_spec
from mit_semseg.metrics.confusion import ConfusionMatrix
from mit_semseg.models import SegmentationModule


def config(tiny, trained, **keys):
    return load_config(str(tiny.config), tiny.overrides(DIR=trained, **keys))


def test_an_evaluation_counts_what_the_plain_method_gives(tiny, trained, tmp_path):
    cfg = config(tiny, trained, VAL__result=tmp_path)
    parts = model_spec(cfg).build(trained_weights(cfg, "VAL"), use_softmax=True)
    module = SegmentationModule(*parts, None).eval()
    expected = ConfusionMatrix(3)
    dataset = ValDataset(cfg.DATASET.root_dataset, cfg.DATASET.list_val, cfg.DATASET)
    for k in range(len(dataset)):
        label = dataset[k]["seg_label"][0]
        scores = plain_probabilities(module, dataset[k]["img_data"], label.shape)
        expected.update(scores.argmax(0), label)
    counts = evaluate(cfg, [torch.device("cpu")]).counts
    assert np.abs(counts - expected.counts).sum() <= 2 * 2  # two ties, each in two cells


def test_the_keys_become_settings(tiny, trained):
    cfg = config(
        tiny, trained, INFERENCE__flip=True, INFERENCE__tile=64, INFERENCE__overlap=32, INFERENCE__amp="bf16"
    )
    network, settings = build_scoring(cfg, trained_weights(cfg, "VAL"), torch.device("cpu"))
    assert (settings.flip, settings.tile, settings.overlap, network.amp) == (True, 64, 32, "bf16")


@pytest.mark.parametrize(
    "keys",
    [
        ["INFERENCE.flip", "True"],
        ["INFERENCE.tile", "32"],
        ["INFERENCE.amp", "bf16"],
        ["DATASET.imgSizes", "8"],
    ],
)
def test_a_picture_comes_out_whatever_the_settings(call, tiny, trained, tmp_path, keys):
    Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)).save(tmp_path / "a.png")
    words = tiny.overrides(DIR=trained, TEST__result=tmp_path / "out")
    images = ("--imgs", tmp_path / "a.png", "--gpu", "cpu")
    outcome = call("test", *images, "--cfg", tiny.config, *words, *keys)
    assert (outcome.code, outcome.err) == (0, "")
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert picture.size == (120, 40)
