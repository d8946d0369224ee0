import math

import pytest
import torch

from mit_semseg.inference import predict_probabilities
from mit_semseg.models import ModelBuilder, SegmentationModule

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)
    decoder = ModelBuilder.build_decoder("c1", channels=encoder.channels, num_class=3, use_softmax=True)
    return SegmentationModule(encoder, decoder, None).eval()


class Logistic(torch.nn.Module):
    """Two classes, whose probabilities are the logistic function of the image's first value and the rest."""

    def forward(self, feed_dict, *, segSize):
        first = feed_dict["img_data"][0, 0, 0, 0].sigmoid()
        return torch.stack([first, 1 - first]).reshape(1, 2, 1, 1).expand(1, 2, *segSize).clone()


def images(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, *size, generator=generator) for size in sizes]


def test_the_mean_over_scales_by_hand():
    # Odds of 1 : 1 and 3 : 1
    scales = [torch.zeros(1, 3, 8, 8), torch.full((1, 3, 16, 16), math.log(3))]
    result = predict_probabilities(Logistic(), scales, (2, 3), CPU)
    torch.testing.assert_close(result[0], torch.full((2, 3), 0.625))
    torch.testing.assert_close(result[1], torch.full((2, 3), 0.375))


def test_probabilities_sum_to_one_at_the_wanted_size(module):
    result = predict_probabilities(module, images((32, 40), (48, 64), (24, 24)), (31, 45), CPU)
    assert result.shape == (3, 31, 45)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.sum(0), torch.ones(31, 45))


def test_the_order_of_the_scales_does_not_matter_and_equal_scales_change_nothing(module):
    a, b = images((32, 40), (48, 64))
    forward = predict_probabilities(module, [a, b], (20, 30), CPU)
    torch.testing.assert_close(predict_probabilities(module, [b, a], (20, 30), CPU), forward)
    once = predict_probabilities(module, [a], (20, 30), CPU)
    torch.testing.assert_close(predict_probabilities(module, [a, a], (20, 30), CPU), once)
    torch.testing.assert_close(once, module({"img_data": a}, segSize=(20, 30))[0].detach())


def test_no_gradients_are_kept(module):
    assert not predict_probabilities(module, images((16, 16)), (8, 8), CPU).requires_grad


def test_an_image_without_a_scale_is_refused(module):
    with pytest.raises(ValueError, match=r"^images is empty: there is no scale to score$"):
        predict_probabilities(module, [], (8, 8), CPU)
