"""A scene scored strip by strip has the labels of the whole image, bit for bit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mit_semseg.errors import UserError
from mit_semseg.inference.network import ScoringNetwork
from mit_semseg.inference.predict import Settings, predict_labels
from mit_semseg.inference.scene import STEP, SceneScorer
from mit_semseg.inference.tiles import Held
from mit_semseg.models import SegmentationModule
from mit_semseg.models.decoders.base import Decoder


class Steps(nn.Module):
    """An encoder that averages each 8 x 8 pixels, or what there is of them."""

    channels = (3,)
    strides = (8,)

    def forward(self, x, return_feature_maps=False):
        return [F.avg_pool2d(x, 8, ceil_mode=True)]


class Mix(Decoder):
    """Scores from the three bands, over 3 x 3 of them."""

    def __init__(self, num_class):
        super().__init__((3,), num_class)
        self.conv = nn.Conv2d(3, num_class, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=3)

    def logits(self, features):
        return self.conv(features[-1])


def network(num_class):
    torch.manual_seed(0)
    module = SegmentationModule(Steps(), Mix(num_class), None).eval()
    return ScoringNetwork.prepared(module, torch.device("cpu"))


def images(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def labels_of(scorer, size):
    found, calls = np.full(size, -1), []

    def use(rows, columns, classes):
        assert columns.start // STEP == (columns.stop - 1) // STEP
        assert (found[rows, columns] == -1).all()
        found[rows, columns] = classes

    scorer.run(use, lambda: calls.append(1))
    assert len(calls) == scorer.tiles()
    return found


@pytest.mark.parametrize(
    ("sizes", "num_class", "settings"),
    [
        ([(136, 1600)], 5, Settings(tile=96)),
        ([(136, 1600)], 300, Settings(tile=96, overlap=32)),
        ([(136, 1600)], 2, Settings(tile=96, threshold=0.3)),
        ([(72, 808), (144, 1608)], 5, Settings(tile=96, flip=True)),
        ([(40, 64), (144, 1608)], 7, Settings(tile=96)),
        ([(136, 1600)], 5, Settings()),
    ],
    ids=["tiles", "many classes", "threshold", "scales, mirrored", "one scale whole", "whole"],
)
@pytest.mark.parametrize("budget", [1, 2**40], ids=["narrow strips", "one strip"])
def test_labels_are_those_of_the_whole_image(sizes, num_class, settings, budget):
    net, size, scales = network(num_class), (137, 1601), images(*sizes)
    scorer = SceneScorer(net, [Held(image) for image in scales], size, settings, num_class, "a.tif", budget)
    expected = predict_labels(net, scales, size, settings)[0].numpy()
    np.testing.assert_array_equal(labels_of(scorer, size), expected)


def test_scores_that_are_not_finite_name_the_scene():
    net = network(3)
    net.module.decoder.conv.bias.data[0] = torch.nan
    scorer = SceneScorer(net, [Held(*images((64, 64)))], (64, 64), Settings(tile=32), 3, "a.tif")
    with pytest.raises(UserError, match=r"The scores of a\.tif are NaN"):
        labels_of(scorer, (64, 64))
