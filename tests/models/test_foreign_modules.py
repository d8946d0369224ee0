"""Encoders and decoders that imported models need, by hand, and their options."""

import pytest
import torch
from torch import nn

from mit_semseg.errors import UserError
from mit_semseg.inference.blocks import axis
from mit_semseg.models import ModelBuilder, ModelSpec
from mit_semseg.models.encoders.convnext import ConvNeXt
from mit_semseg.models.encoders.hrnet import HRNet
from mit_semseg.models.encoders.mit import _Attention as Reduced
from mit_semseg.models.encoders.resnet_variants import ResNetVariant
from mit_semseg.models.encoders.swin import Swin, _mask
from mit_semseg.models.encoders.swin import _Attention as Windowed
from mit_semseg.models.layers import DropPath, drop_rates, resize


def zero(net):
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return net


# Attention


def test_attention_to_a_reduced_map_by_hand():
    """Equal scores: every pixel gets the mean of the values, here those of the reduced map."""
    attention = zero(Reduced(1, 1, reduction=2, qkv_bias=True, inner_eps=1e-5))
    attention.reduce.weight.data.fill_(0.25)  # the mean of four pixels
    attention.norm = nn.Identity()
    attention.kv.weight.data[1] = 3  # values
    attention.out.weight.data.fill_(1)
    x = torch.tensor([0.0, 2, 4, 6, 1, 3, 5, 7]).reshape(1, 8, 1)
    # The map of 2 x 4 pixels becomes (0 + 2 + 1 + 3) / 4 = 1.5 and (4 + 6 + 5 + 7) / 4 = 5.5.
    torch.testing.assert_close(attention(x, 2, 4), torch.full((1, 8, 1), 3 * (1.5 + 5.5) / 2))


def test_windows_see_themselves_only_and_the_shift_does_not_join_borders():
    attention = zero(Windowed(1, 1, window=2, qkv_bias=True))
    attention.qkv.weight.data[2] = 1  # values
    attention.out.weight.data.fill_(1)
    x = torch.arange(8.0).reshape(1, 2, 4, 1)  # one image, two windows of four pixels
    torch.testing.assert_close(attention(x, None)[0, :, 0, 0], torch.tensor([1.5, 5.5]))
    # A map of 2 x 4 that is shifted by 1: its last row and last column came from the other side.
    mask = _mask(torch.zeros(1, 2, 4, 1), 2, 1)
    assert mask.shape == (2, 4, 4)
    assert (mask[0, 0] == 0).tolist() == [True, True, False, False]
    assert (mask[1, 0] == 0).tolist() == [True, False, False, False]
    torch.testing.assert_close(attention(x, mask)[0, 0, :, 0], torch.tensor([0.5, 0.5, 2.5, 2.5]))


def test_the_bias_of_a_window_depends_on_the_offset_of_two_pixels():
    offsets = Windowed(1, 1, window=2, qkv_bias=True).offsets()
    # Pixels 0 1 / 2 3: the offset of a pixel to itself is the middle one of 3 x 3.
    assert offsets.diagonal().tolist() == [4, 4, 4, 4]
    assert offsets[0].tolist() == [4, 3, 1, 0]
    assert (offsets + offsets.T == 8).all()


# Sizes


def test_the_maps_of_swin_are_rounded_up_and_those_of_convnext_down():
    small = {"depths": (1, 1, 1, 1)}
    for net, sides in (
        (Swin(**small, width=8, heads=(1,) * 4), (17, 9, 5, 3)),
        (ConvNeXt(**small), (16, 8, 4, 2)),
    ):
        maps = net.eval()(torch.randn(1, 3, 65, 65), return_feature_maps=True)
        assert tuple(x.shape[-1] for x in maps) == sides


def test_a_small_image_is_padded_and_its_padding_cut_off_again():
    net = ConvNeXt(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4)).eval()
    x = torch.randn(1, 3, 8, 40)
    padded = nn.functional.pad(x, (0, 0, 0, 24))
    first = net(x, return_feature_maps=True)[0]
    assert first.shape == (1, 4, 2, 10)
    torch.testing.assert_close(first, net(padded, return_feature_maps=True)[0][:, :, :2])


def test_dilation_of_a_stage_with_and_without_contraction_and_per_block():
    def dilations(**options):
        with torch.device("meta"):
            net = ResNetVariant(50, "v1c", strides=(1, 2, 1, 1), **options)
        return net.strides, [block.conv2.dilation[0] for block in net.layer4]

    assert dilations(dilations=(1, 1, 2, 4)) == ((4, 8, 8, 8), [4, 4, 4])
    assert dilations(dilations=(1, 1, 2, 4), contract_dilation=True)[1] == [2, 4, 4]
    assert dilations(multi_grid=(1, 2, 4))[1] == [1, 2, 4]


def test_a_coarser_branch_of_hrnet_is_enlarged_by_a_power_of_two_first():
    x, finer = torch.randn(1, 2, 3, 3), torch.zeros(1, 2, 9, 11)
    module = HRNet(widths=(2, 4, 8, 16), blocks=(1,) * 4, modules=(1, 1, 1)).stage3[0]
    assert torch.equal(module._enlarged(x, 2, finer), resize(resize(x, (12, 12)), (9, 11)))


# Options


def test_aligned_corners_by_hand():
    x = torch.tensor([0.0, 3.0]).reshape(1, 1, 1, 2)
    assert resize(x, (1, 4), align_corners=True).flatten().tolist() == [0, 1, 2, 3]
    found = axis(2, 4, align_corners=True)
    torch.testing.assert_close(found.blend(torch.tensor([0.0, 3.0]), 0, 0, 4), torch.tensor([0.0, 1, 2, 3]))
    wide = axis(5, 1, align_corners=True)
    assert (int(wide.lower), float(wide.fraction)) == (0, 0)


def test_a_decoder_reads_the_maps_that_its_option_names():
    channels = (2, 3, 4, 5)
    build = {"channels": channels, "num_class": 2, "dim": 4}
    one = ModelBuilder.build_decoder("fcn", **build, options={"maps": [1]})
    assert (one.convs[0][0].in_channels, one.output_map) == (3, 1)
    both = ModelBuilder.build_decoder("fcn", **build, options={"maps": [1, 3]}).eval()
    maps = [torch.randn(1, width, 16 // 2**i, 16 // 2**i) for i, width in enumerate(channels)]
    joined = both.joined(maps)
    assert torch.equal(joined[:, :3], maps[1])
    assert torch.equal(joined[:, 3:], resize(maps[3], (8, 8)))
    assert both(maps).shape == (1, 2, 8, 8)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"map": [1]},
            "decoder fcn has no option 'map'. Did you mean maps? Its options are align_corners, maps",
        ),
        ({"maps": 1}, "maps is 1, but must be a list, each of which is a whole number, such as [0, 1, 2]."),
        ({"maps": [4]}, "maps begins with 4, but resnet18_v1c gives 4 maps."),
        ({"convs": True}, "convs is True, but must be a whole number."),
        ({"convs": 10**9}, "convs is 1000000000, but must be a whole number of at most 1048576."),
        ({"kernel_size": 2}, "kernel_size 2 and dilation 1, but they must be"),
        ({"align_corners": "yes"}, "align_corners is 'yes', but must be true or false."),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, says):
    spec = ModelSpec("resnet18_v1c", "fcn", 3, 512, 32, decoder_options=options)
    with pytest.raises(UserError, match=r"^MODEL.decoder_options: ") as error:
        spec.check()
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("arch", "options", "says"),
    [
        ("resnet18", {"strides": [1]}, "resnet18 has no option 'strides'. It has none."),
        ("timm/resnet18", {"strides": [1]}, "timm/resnet18 has no option 'strides'. It has none."),
        ("resnet18_v1c", {"strides": [1, 2]}, "strides and dilations need 4 values each."),
        ("mit_b0", {"widths": [10, 20, 30, 41]}, "the width 41 is not a multiple of the 8 heads."),
        ("swin_tiny", {"window": 0}, "window must be above 0."),
    ],
)
def test_an_option_of_an_encoder_that_cannot_be_is_refused(arch, options, says):
    with torch.device("meta"), pytest.raises(UserError, match=r"^MODEL.encoder_options: ") as error:
        ModelBuilder.build_encoder(arch, imagenet=False, options=options)
    assert str(error.value).endswith(says)


# Stochastic depth


def test_a_dropped_path_is_zero_or_scaled_and_only_in_training():
    torch.manual_seed(0)
    layer, x = DropPath(0.25), torch.ones(1000, 2, 3)
    y = layer.train()(x)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(4 / 3).item()}
    assert (y[:, :1, :1] == y).all()
    assert 0.2 < (y == 0).float().mean() < 0.3
    assert layer.eval()(x) is x
    assert drop_rates((1, 2), 0.2) == [[0.0], [0.1, 0.2]]
