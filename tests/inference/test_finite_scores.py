"""Scores that are NaN or infinite are refused with the name of the image, however they are computed."""

import re
import shutil

import numpy as np
import pytest
import torch

from mit_semseg import Segmenter
from mit_semseg.errors import UserError
from mit_semseg.inference.predict import (
    Settings,
    predict_confident_labels,
    predict_labels,
    predict_probabilities,
)

PREDICT = (predict_labels, predict_confident_labels, predict_probabilities)
NAMES = ["a.jpg", "b.jpg"]


class Spoiling:
    """A network whose scores are the image, at stride 1, so that an image can make them infinite."""

    device, stride, grid = torch.device("cpu"), 1, 8
    align_corners = False

    def __call__(self, image):
        return image.permute(0, 2, 3, 1).contiguous()


def images(value, place=(1, 0, 20, 30)):
    """Two images at two scales; the second image has ``value`` somewhere at the second scale."""
    scales = [torch.rand(2, 3, 24, 32), torch.rand(2, 3, 32, 40)]
    scales[1][place] = value
    return scales


@pytest.mark.parametrize("predict", PREDICT)
@pytest.mark.parametrize("settings", [Settings(), Settings(flip=True), Settings(tile=16, overlap=8)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_is_enough_in_one_image_of_a_batch(predict, settings, value):
    predict(Spoiling(), images(0.0), (30, 40), settings, NAMES)
    with pytest.raises(UserError, match=r"^The scores of b\.jpg are NaN or infinite\. The weights are"):
        predict(Spoiling(), images(value), (30, 40), settings, NAMES)


def test_large_scores_are_finite():
    predict_labels(Spoiling(), images(1e30), (30, 40), Settings(), NAMES)


def test_the_arithmetic_is_suspected_before_the_weights():
    with pytest.raises(
        UserError, match=r"Set INFERENCE\.amp none, not bf16\. If that does not help, the weights"
    ):
        predict_labels(Spoiling(), images(float("nan")), (30, 40), Settings(amp="bf16"))


@pytest.fixture
def overflowing(trained, tmp_path):
    """A copy of the trained run with weights that are finite, but too large for finite scores."""
    folder = shutil.copytree(trained, tmp_path / "overflowing", ignore=shutil.ignore_patterns("result"))
    for epoch in (1, 2):
        weights = torch.load(folder / f"decoder_epoch_{epoch}.pth")
        last = next(name for name in weights if name.endswith("conv_last.weight"))
        weights[last] = torch.full_like(weights[last], 3e38)
        torch.save(weights, folder / f"decoder_epoch_{epoch}.pth")
    return folder


def test_no_command_writes_results_of_them(overflowing, segment, call, tiny, tmp_path):
    image = tiny.folder / "validation" / "0.jpg"
    for outputs in ("side_by_side", "labels,scores"):
        outcome = segment(image, DIR=overflowing, TEST__output=outputs)
        assert outcome.code == 2
        assert re.fullmatch(rf"The scores of {image} are NaN or infinite\. The weights are .*\n", outcome.err)
    assert not (tmp_path / "out").exists()
    for words in ((), ("VAL.calibration", True), ("VAL.batch_size", 2)):
        outcome = call("eval", "--gpus", "cpu", "--cfg", tiny.config, "DIR", overflowing, *words)
        assert outcome.code == 2
        assert outcome.err.startswith("The scores of validation/0.jpg are NaN or infinite.")
    assert not (overflowing / "result").exists()


def test_a_segmenter_refuses_them(overflowing, tiny):
    segmenter = Segmenter.load(overflowing, device="cpu")
    image = tiny.folder / "validation" / "0.jpg"
    with pytest.raises(UserError, match=rf"^The scores of {image} are NaN or infinite"):
        segmenter(image)
    with pytest.raises(UserError, match=r"^The scores of image\[0\] are NaN or infinite"):
        segmenter([np.zeros((20, 30, 3), np.uint8)])
