import pytest
import torch
from local_network import local

from mit_semseg.inference import (
    ScoringNetwork,
    predict_confident_labels,
    predict_labels,
    predict_probabilities,
)
from mit_semseg.inference.predict import Settings, labels_of, margin, predict_margins
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


@pytest.mark.parametrize("softmax", [True, False], ids=["logits", "shares"])
@pytest.mark.parametrize(
    ("num_class", "settings"), [(5, Settings()), (2, Settings(threshold=0.3)), (2, Settings(flip=True))]
)
def test_labels_and_measures_are_those_of_the_mean_probabilities(num_class, settings, softmax):
    net, size, scales = local(num_class, softmax=softmax), (61, 83), images((48, 64), (64, 88), (96, 128))
    labels = predict_labels(net, scales, size, settings)
    probabilities = predict_probabilities(net, scales, size, settings).permute(0, 2, 3, 1)
    assert torch.equal(labels.long(), labels_of(probabilities, settings))
    found, margins = predict_margins(net, scales, size, settings)
    assert torch.equal(found, labels)
    assert torch.equal(margins, margin(probabilities, settings))
    found, confidence = predict_confident_labels(net, scales, size, settings)
    assert torch.equal(found, labels)
    assert torch.equal(confidence, probabilities.gather(-1, labels.long()[..., None])[..., 0])
