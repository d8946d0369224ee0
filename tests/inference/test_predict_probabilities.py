import pytest
import torch

from mit_semseg.inference import ScoringNetwork, predict_probabilities
from mit_semseg.models import ModelBuilder, SegmentationModule

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)
    decoder = ModelBuilder.build_decoder("c1", channels=encoder.channels, num_class=3, use_softmax=True)
    return SegmentationModule(encoder, decoder, None).eval()


@pytest.fixture(scope="module")
def network(module):
    return ScoringNetwork.prepared(module, CPU)


def images(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, *size, generator=generator) for size in sizes]


def test_probabilities_sum_to_one_at_the_wanted_size(network):
    result = predict_probabilities(network, images((32, 40), (48, 64), (24, 24)), (31, 45))[0]
    assert result.shape == (3, 31, 45)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.sum(0), torch.ones(31, 45))


def test_the_order_of_the_scales_does_not_matter_and_equal_scales_change_nothing(network, module):
    a, b = images((32, 40), (48, 64))
    forward = predict_probabilities(network, [a, b], (20, 30))
    torch.testing.assert_close(predict_probabilities(network, [b, a], (20, 30)), forward)
    once = predict_probabilities(network, [a], (20, 30))
    torch.testing.assert_close(predict_probabilities(network, [a, a], (20, 30)), once)
    torch.testing.assert_close(once[0], module({"img_data": a}, segSize=(20, 30))[0].detach())


def test_no_gradients_are_kept(network):
    assert not predict_probabilities(network, images((16, 16)), (8, 8)).requires_grad


def test_an_image_without_a_scale_is_refused(network):
    with pytest.raises(ValueError, match=r"^images is empty: there is no scale to score$"):
        predict_probabilities(network, [], (8, 8))
