"""A scene scored strip by strip has the labels of the whole image, bit for bit."""

import numpy as np
import pytest
import torch
from local_network import local

from mit_semseg.errors import UserError
from mit_semseg.inference.predict import Settings, predict_labels
from mit_semseg.inference.scene import STEP, SceneScorer
from mit_semseg.inference.tiles import Held


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
    ("sizes", "num_class", "settings", "softmax"),
    [
        ([(136, 1600)], 5, Settings(tile=96), True),
        ([(136, 1600)], 300, Settings(tile=96, overlap=32), True),
        ([(136, 1600)], 2, Settings(tile=96, threshold=0.3), True),
        ([(72, 808), (144, 1608)], 5, Settings(tile=96, flip=True), True),
        ([(40, 64), (144, 1608)], 7, Settings(tile=96), True),
        ([(136, 1600)], 5, Settings(tile=2000), True),
        ([(72, 808), (144, 1608)], 5, Settings(tile=96), False),
        ([(136, 1600)], 2, Settings(tile=96, threshold=0.4), False),
    ],
    ids=[
        "tiles",
        "many classes",
        "threshold",
        "scales, mirrored",
        "one scale whole",
        "whole",
        "shares",
        "threshold of shares",
    ],
)
@pytest.mark.parametrize("budget", [1, 2**40], ids=["narrow strips", "one strip"])
def test_labels_are_those_of_the_whole_image(sizes, num_class, settings, softmax, budget):
    net, size, scales = local(num_class, softmax=softmax), (137, 1601), images(*sizes)
    scorer = SceneScorer(net, [Held(image) for image in scales], size, settings, num_class, "a.tif", budget)
    expected = predict_labels(net, scales, size, settings)[0].numpy()
    np.testing.assert_array_equal(labels_of(scorer, size), expected)


def test_without_a_tile_in_the_settings_the_tiles_have_their_own_size():
    net, image = local(3), images((136, 1600))
    counts = [
        SceneScorer(net, [Held(image[0])], (136, 1600), settings, 3, "a.tif", 2**40).tiles()
        for settings in (Settings(), Settings(tile=512), Settings(tile=1600))
    ]
    assert counts == [4, 4, 1]


def test_scores_that_are_not_finite_name_the_scene():
    net = local(3)
    net.module.decoder.conv.bias.data[0] = torch.nan
    scorer = SceneScorer(net, [Held(*images((64, 64)))], (64, 64), Settings(tile=32), 3, "a.tif")
    with pytest.raises(UserError, match=r"The scores of a\.tif are NaN"):
        labels_of(scorer, (64, 64))
