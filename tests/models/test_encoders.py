import copy
import math

import pytest
import torch
from drawn_weights import drawn_encoder
from torch import nn

from mit_semseg.models import ModelBuilder
from mit_semseg.models.builder import ENCODERS
from mit_semseg.models.encoders.mobilenet import InvertedResidual, MobileNetV2Dilated, mobilenetv2
from mit_semseg.models.encoders.resnet import BasicBlock, ResnetDilated, resnet18
from mit_semseg.models.layers import conv_bn_relu, dilate, resize

CHANNELS_AND_STRIDES = {
    "mobilenetv2dilated": ((24, 32, 64, 160, 320), (4, 8, 8, 8, 8)),
    "resnet18": ((64, 128, 256, 512), (4, 8, 16, 32)),
    "resnet18dilated": ((64, 128, 256, 512), (4, 8, 8, 8)),
    "resnet34": ((64, 128, 256, 512), (4, 8, 16, 32)),
    "resnet34dilated": ((64, 128, 256, 512), (4, 8, 8, 8)),
    "resnet50": ((256, 512, 1024, 2048), (4, 8, 16, 32)),
    "resnet50dilated": ((256, 512, 1024, 2048), (4, 8, 8, 8)),
    "resnet101": ((256, 512, 1024, 2048), (4, 8, 16, 32)),
    "resnet101dilated": ((256, 512, 1024, 2048), (4, 8, 8, 8)),
    "resnext101": ((256, 512, 1024, 2048), (4, 8, 16, 32)),
    "hrnetv2": ((720,), (4,)),
    **{
        f"resnet{depth}_{variant}": (channels, (4, 8, 16, 32))
        for depth, channels in (
            *((depth, (64, 128, 256, 512)) for depth in (18, 34)),
            *((depth, (256, 512, 1024, 2048)) for depth in (50, 101, 152)),
        )
        for variant in ("v1b", "v1c", "v1d")
    },
    "mobilenetv2": ((24, 32, 96, 320), (4, 8, 16, 32)),
    "hrnet_w18_small": ((18, 36, 72, 144), (4, 8, 16, 32)),
    "hrnet_w18": ((18, 36, 72, 144), (4, 8, 16, 32)),
    "hrnet_w48": ((48, 96, 192, 384), (4, 8, 16, 32)),
    "mit_b0": ((32, 64, 160, 256), (4, 8, 16, 32)),
    **{f"mit_b{size}": ((64, 128, 320, 512), (4, 8, 16, 32)) for size in range(1, 6)},
    "convnext_tiny": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "convnext_small": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "convnext_base": ((128, 256, 512, 1024), (4, 8, 16, 32)),
    "convnext_large": ((192, 384, 768, 1536), (4, 8, 16, 32)),
    "convnext_xlarge": ((256, 512, 1024, 2048), (4, 8, 16, 32)),
    "swin_tiny": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "swin_small": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "swin_base": ((128, 256, 512, 1024), (4, 8, 16, 32)),
    "swin_large": ((192, 384, 768, 1536), (4, 8, 16, 32)),
    **{
        f"dino{version}_{size}": ((width,), (16,))
        for version, size, width in (
            *(("v2", *each) for each in (("small", 384), ("base", 768), ("large", 1024), ("giant", 1536))),
            *(("v3", *each) for each in (("small", 384), ("base", 768), ("large", 1024))),
        )
    },
}


# The others differ from one of these only in the number of blocks and channels.
KINDS = (
    *("mobilenetv2dilated", "resnet18", "resnet18dilated", "resnet50", "resnet50dilated"),
    *("resnext101", "hrnetv2", "resnet18_v1b", "resnet50_v1d", "mobilenetv2", "hrnet_w18_small", "mit_b0"),
    *("convnext_tiny", "swin_tiny", "dinov2_small", "dinov3_small"),
)


@pytest.fixture(scope="module", params=KINDS)
def encoder(request):
    return drawn_encoder(request.param)


@pytest.fixture(scope="module", params=ENCODERS)
def shapes_only(request):
    """A name, and its encoder without numbers: its maps are tensors that have a shape and nothing in them."""
    with torch.device("meta"):
        return request.param, ModelBuilder.build_encoder(request.param, imagenet=False).eval()


# By hand


def identity_convolution(conv):
    """The convolution gives what it gets."""
    nn.init.dirac_(conv.weight)


def test_a_residual_block_by_hand():
    block = BasicBlock(1, 1).eval()
    identity_convolution(block.conv1)
    identity_convolution(block.conv2)
    x = torch.tensor([-2.0, 0.5, 3.0]).reshape(1, 1, 1, 3)
    # relu(x + relu(x)); BatchNorm in its first state divides by sqrt(1 + 1e-5), twice
    torch.testing.assert_close(block(x).flatten(), torch.tensor([0.0, 1.0, 6.0]), rtol=1e-5, atol=0)


def test_an_inverted_residual_is_linear_at_its_end_and_adds_its_input_only_where_shapes_agree():
    assert InvertedResidual(8, 8, stride=1, expansion=6).use_residual
    assert not InvertedResidual(8, 8, stride=2, expansion=6).use_residual
    assert not InvertedResidual(8, 16, stride=1, expansion=6).use_residual
    block = InvertedResidual(1, 1, stride=1, expansion=1).eval()
    identity_convolution(block.conv[0])
    block.conv[3].weight.data.fill_(-1)
    x = torch.tensor([-2.0, 3.0, 9.0]).reshape(1, 1, 1, 3)
    # x - relu6(x), which no ReLU follows
    torch.testing.assert_close(block(x).flatten(), torch.tensor([-2.0, 0.0, 3.0]), rtol=1e-4, atol=1e-4)


def test_dilation_takes_the_place_of_a_stride_and_the_strided_layer_gets_half_of_it():
    stage = nn.Sequential(
        nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.Conv2d(1, 1, 1, stride=2), nn.Conv2d(1, 1, 3, padding=1)
    )
    dilate(stage, 4)
    strided, pointwise, plain = stage
    assert (strided.stride, strided.dilation, strided.padding) == ((1, 1), (2, 2), (2, 2))
    assert (pointwise.stride, pointwise.dilation, pointwise.padding) == ((1, 1), (1, 1), (0, 0))
    assert (plain.stride, plain.dilation, plain.padding) == ((1, 1), (4, 4), (4, 4))


def test_resizing_aligns_the_areas_of_pixels_not_their_centres():
    x = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    assert resize(x, (1, 4)).flatten().tolist() == [0, 1, 3, 4]


def test_a_convolution_with_batch_norm_halves_odd_sizes_upwards():
    assert conv_bn_relu(2, 3, stride=2)(torch.ones(2, 2, 5, 7)).shape == (2, 3, 3, 4)
    assert conv_bn_relu(2, 3, kernel_size=1)(torch.ones(2, 2, 5, 7)).shape == (2, 3, 5, 7)


# The contract of every encoder


def test_every_encoder_is_in_the_table_above():
    assert CHANNELS_AND_STRIDES.keys() == ENCODERS.keys()


def test_the_published_channels_and_strides_are_those_of_the_papers(shapes_only):
    name, encoder = shapes_only
    assert (encoder.channels, encoder.strides) == CHANNELS_AND_STRIDES[name]


def test_the_maps_have_the_published_channels_and_strides_at_any_size(shapes_only):
    name, encoder = shapes_only
    rounded = (lambda x: max(1, int(x))) if name.startswith("convnext") else math.ceil
    for size in [(65, 97), (600, 801), (1, 1)] if name in KINDS else [(65, 97)]:
        maps = encoder(torch.empty(2, 3, *size, device="meta"), return_feature_maps=True)
        assert isinstance(maps, list)
        assert [tuple(x.shape) for x in maps] == [
            (2, channels, *(rounded(side / stride) for side in size))
            for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
        ], size


def test_the_last_map_is_the_same_alone_and_images_in_a_batch_do_not_touch_each_other(encoder):
    x = torch.randn(2, 3, 33, 40, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    with torch.no_grad():
        maps = encoder(x, return_feature_maps=True)
        (alone,) = encoder(x[1:])
    assert torch.equal(x, before)
    for values in maps:
        assert values.dtype == torch.float32
        assert values.isfinite().all()
    torch.testing.assert_close(alone, maps[-1][1:], rtol=1e-3, atol=1e-4)


def test_gradients_reach_every_parameter(encoder):
    trained = copy.deepcopy(encoder).train()
    x = torch.randn(2, 3, 33, 40, generator=torch.Generator().manual_seed(0))
    maps = trained(x, return_feature_maps=True)  # some parameters belong to one map
    sum(
        (values * torch.linspace(-1, 1, values.numel()).reshape(values.shape)).sum() for values in maps
    ).backward()
    without = [
        name for name, p in trained.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert without == []


# Dilation


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_a_dilated_encoder_takes_the_weights_of_the_plain_one(name):
    with torch.device("meta"):
        plain, dilated = (ModelBuilder.build_encoder(name + end, imagenet=False) for end in ("", "dilated"))
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (plain, dilated)]
    assert shapes[0] == shapes[1]


def test_a_dilated_encoder_sees_what_the_plain_one_sees_at_every_other_pixel():
    # Where no border is near, dilation computes the strided map and the maps shifted from it.
    plain, dilated = drawn_encoder("resnet18"), drawn_encoder("resnet18dilated")
    x = torch.zeros(1, 3, 512, 512)
    x[:, :, 240:272, 240:272] = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        coarse = plain(x, return_feature_maps=True)[2]
        fine = dilated(x, return_feature_maps=True)[2]
    torch.testing.assert_close(fine[..., 16:48:2, 16:48:2], coarse[..., 8:24, 8:24], rtol=1e-3, atol=1e-4)


def test_a_last_stride_of_16_is_possible():
    with torch.device("meta"):
        nets = [
            ResnetDilated(resnet18(), dilate_scale=16),
            MobileNetV2Dilated(mobilenetv2(), dilate_scale=16),
        ]
    x = torch.empty(1, 3, 65, 97, device="meta")
    for net in nets:
        sizes = [tuple(values.shape[-2:]) for values in net.eval()(x, return_feature_maps=True)]
        assert sizes == [(-(-65 // stride), -(-97 // stride)) for stride in net.strides]
        assert net.strides[-1] == 16


@pytest.mark.parametrize(
    "build", [lambda: ResnetDilated(resnet18(), 4), lambda: MobileNetV2Dilated(mobilenetv2(), 4)]
)
def test_another_last_stride_is_refused(build):
    with torch.device("meta"), pytest.raises(ValueError, match=r"^dilate_scale is 4, but takes 8 or 16$"):
        build()


# Old defects


def test_resnet34_can_be_built():
    # Its name was known, and nothing stood behind it.
    encoder = ModelBuilder.build_encoder("resnet34", imagenet=False)
    blocks = [len(stage) for stage in encoder.stages()]
    assert blocks == [3, 4, 6, 3]


def test_the_classifiers_are_there_too():
    with torch.device("meta"):
        for net in (resnet18(), mobilenetv2()):
            assert net.eval()(torch.empty(2, 3, 65, 97, device="meta")).shape == (2, 1000)
