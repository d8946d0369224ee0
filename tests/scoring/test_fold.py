import pytest
import torch
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.scoring.fold import folded

BATCH_NORM = nn.modules.batchnorm._BatchNorm


def lively(net):
    """Statistics and parameters of BatchNorm that are not the identity."""
    torch.manual_seed(1)
    for layer in net.modules():
        if isinstance(layer, BATCH_NORM):
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    return net.eval()


def run(net):
    return net(torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8))


def norms(net):
    return sum(isinstance(layer, BATCH_NORM) for layer in net.modules())


def test_a_fold_by_hand():
    # y = 2 (3 x + 1 - 5) / sqrt(3 + 1) + 7 = 3 x + 3
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=1)
    with torch.no_grad():
        for values, value in (
            (conv.weight, 3),
            (conv.bias, 1),
            (norm.running_mean, 5),
            (norm.running_var, 3),
            (norm.weight, 2),
            (norm.bias, 7),
        ):
            values.fill_(value)
    net = nn.Sequential(conv, norm).eval()
    new = folded(net, lambda net: net(torch.ones(1, 1, 2, 2)))
    assert norms(new) == 0
    assert (new[0].weight.item(), new[0].bias.item()) == (3, 3)
    assert (conv.weight.item(), conv.bias.item(), norms(net)) == (3, 1, 1)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, SynchronizedBatchNorm2d])
@pytest.mark.parametrize("groups", [1, 3])
def test_the_result_stays_and_the_given_network_too(kind, groups):
    net = lively(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, groups=groups, bias=False), kind(6), nn.ReLU(inplace=True), nn.Conv2d(6, 2, 1)
        )
    )
    before = {name: value.clone() for name, value in net.state_dict().items()}
    new = folded(net, run)
    assert norms(new) == 0
    torch.testing.assert_close(run(new), run(net))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert list(net.state_dict()) == list(before)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in new.modules())


class ReadTwice(nn.Module):
    """The convolution's output goes to the BatchNorm, and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + x


class UsedTwice(nn.Module):
    """One convolution, with a BatchNorm for its first call only."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.norm(self.conv(x)))


@pytest.mark.parametrize("kind", [ReadTwice, UsedTwice])
def test_what_cannot_be_folded_is_left(kind):
    net = lively(kind())
    new = folded(net, run)
    assert norms(new) == 1
    assert torch.equal(run(new), run(net))


@pytest.mark.parametrize(
    ("encoder_name", "decoder_name", "left"),
    # UPerNet enlarges four pooled maps between convolution and BatchNorm.
    [
        ("mobilenetv2dilated", "c1_deepsup", 0),
        ("resnet18dilated", "ppm_deepsup", 0),
        ("resnet50", "upernet_tiny", 4),
        ("hrnetv2", "c1", 0),
    ],
)
def test_our_networks_are_folded_and_give_the_same(encoder_name, decoder_name, left):
    torch.manual_seed(0)
    encoder = ModelBuilder.build_encoder(encoder_name, imagenet=False)
    decoder = ModelBuilder.build_decoder(decoder_name, channels=encoder.channels, num_class=5)
    net = lively(SegmentationModule(encoder, decoder, None))
    image = torch.randn(1, 3, 40, 48)

    def scores(net):
        return net.decoder.logits(net.encoder(image, return_feature_maps=True))

    new = folded(net, scores)
    unused = sum(norms(part) for name, part in net.named_modules() if name == "decoder.cbr_deepsup")
    assert norms(new) == left + unused
    with torch.no_grad():
        expected = scores(net)
        torch.testing.assert_close(scores(new), expected, rtol=0, atol=1e-4 * expected.abs().max().item())
