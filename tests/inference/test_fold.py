import subprocess
import sys

import pytest
import torch
from commands import ROOT
from torch import nn

from mit_semseg.inference.fold import folded
from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.models import ModelBuilder, SegmentationModule

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


class SharedNorm(nn.Module):
    """One BatchNorm after two convolutions."""

    def __init__(self):
        super().__init__()
        self.conv, self.other, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.conv(x)) * self.norm(self.other(x))


class ChangedBefore(nn.Module):
    """The convolution's output is changed in place before the BatchNorm reads it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.conv(x).relu_())


class WeightReadTwice(nn.Module):
    """The convolution's weight has a second use, which the weight of the folded layer would change."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return nn.functional.conv2d(self.norm(self.conv(x)), self.conv.weight)


class WeakSecondReader(ReadTwice):
    """The second reader changes the result by less than any tolerance."""

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + 1e-6 * x


class OutsideTorch(nn.Module):
    """The second reader is NumPy, which torch does not see."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + torch.from_numpy(x.numpy().copy())


class _Halving(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input) / 2


class OtherNorm(nn.Module):
    """A BatchNorm that computes something else."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), _Halving(4)

    def forward(self, x):
        return self.norm(self.conv(x))


AMBIGUOUS = (
    *(ReadTwice, UsedTwice, SharedNorm, ChangedBefore),
    *(WeightReadTwice, WeakSecondReader, OutsideTorch, OtherNorm),
)


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_cannot_be_folded_is_left_and_named_and_all_the_rest_is_folded(kind, caplog):
    def block():
        return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))

    net = lively(nn.Sequential(*(block() for _ in range(5)), kind()))
    with caplog.at_level("INFO", "mit_semseg"):
        new = folded(net, run)
    assert [name for name, layer in new.named_modules() if isinstance(layer, BATCH_NORM)] == ["5.norm"]
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 6 BatchNorms are not folded into the convolution before them, which is slower and gives the "
        "same result: 5.norm"
    ]
    with torch.no_grad():
        expected = run(net)
        torch.testing.assert_close(run(new), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_several_ambiguous_pairs_are_named_in_one_message(caplog):
    net = lively(nn.Sequential(OutsideTorch(), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3), ReadTwice()))
    with caplog.at_level("INFO", "mit_semseg"):
        new = folded(net, run)
    assert norms(new) == 2
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["0.norm, 3.norm"]


def test_a_network_that_gives_no_numbers_is_left_as_it_is():
    net = lively(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    net[0].weight.data[0] = torch.nan
    assert norms(folded(net, run)) == 1


def test_a_network_whose_pairs_are_all_safe_logs_nothing(caplog):
    with caplog.at_level("INFO", "mit_semseg"):
        folded(lively(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))), run)
    assert caplog.records == []


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


def test_folding_does_not_import_the_compiler_of_pytorch():
    code = """
import sys
from torch import nn, ones
from mit_semseg.inference.fold import folded
folded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval(), lambda net: net(ones(1, 3, 8, 8)))
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"  # it would take 150 MB and seconds
