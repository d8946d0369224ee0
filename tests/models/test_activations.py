import pytest
import torch
from torch import nn

from mit_semseg.models import ModelBuilder
from mit_semseg.models.activations import avoid_copies

IN_PLACE = [
    *(nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.Mish),
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.RReLU, nn.Threshold),
]


def copies(layer: nn.Module) -> int:
    """How often the layer copies a tensor in a forward pass that autograd records."""
    hidden = torch.randn(2, 3, requires_grad=True) * 1
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        layer(hidden).sum().backward()
    return sum(event.name == "aten::clone" for event in profile.events())


@pytest.mark.parametrize("kind", IN_PLACE)
def test_activations_write_in_place_only_where_that_needs_no_copy(kind):
    layer = kind(0.1, 0.0, inplace=True) if kind is nn.Threshold else kind(inplace=True)
    copied = copies(layer)
    avoid_copies(layer)
    assert layer.inplace is not bool(copied)
    assert copies(layer) == 0


@pytest.mark.parametrize("encoder", ["mobilenetv2dilated", "timm/tf_efficientnet_lite0"])
def test_gradients_stay_the_same_to_the_bit(encoder):
    if encoder.startswith("timm/"):
        pytest.importorskip("timm")
    found = []
    for avoids in (False, True):
        torch.manual_seed(0)
        network = ModelBuilder.build_encoder(encoder, imagenet=False).train()
        if avoids:
            assert any(getattr(layer, "inplace", False) for layer in network.modules())
            avoid_copies(network)
            assert not any(getattr(layer, "inplace", False) for layer in network.modules())
        network(torch.randn(2, 3, 64, 64), return_feature_maps=True)[-1].square().sum().backward()
        found.append([parameter.grad for parameter in network.parameters()])
    for plain, changed in zip(*found, strict=True):
        assert torch.equal(plain, changed)
