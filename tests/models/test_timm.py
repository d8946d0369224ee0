"""timm models as encoders: the contract of all encoders, for one model of each kind, and the refusals."""

import sys

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import register_model
from torch import nn

from mit_semseg.data.images import MEAN, STD
from mit_semseg.errors import UserError
from mit_semseg.inference.network import ScoringNetwork
from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.models import ModelBuilder, SegmentationModule, check_pair
from mit_semseg.models.builder import DECODERS
from mit_semseg.models.encoders.timm_plan import plan
from mit_semseg.models.encoders.timm_weights import _original

# Channels, strides, and the multiple that the sides of an image are padded to.
MODELS = {
    "resnet18": ((64, 128, 256, 512), (4, 8, 16, 32), 1),
    "regnety_002": ((24, 56, 152, 368), (4, 8, 16, 32), 1),
    "mobilenetv3_small_050": ((8, 16, 24, 288), (4, 8, 16, 32), 1),
    "tf_efficientnet_lite0": ((24, 40, 112, 320), (4, 8, 16, 32), 1),
    "convnext_atto": ((40, 80, 160, 320), (4, 8, 16, 32), 32),
    "swin_tiny_patch4_window7_224": ((96, 192, 384, 768), (4, 8, 16, 32), 32),
    "pvt_v2_b0": ((32, 64, 160, 256), (4, 8, 16, 32), 32),
    "test_maxvit": ((32, 32 + 32, 96, 128), (4, 8, 16, 32), 160),
    "vit_small_patch16_dinov3": ((384,), (16,), 16),
    "vit_small_patch14_dinov2": ((384,), (14,), 14),
}
OTHER_STRIDES = [
    *(("resnet18", stride, (4, 8, min(16, stride), stride)) for stride in (8, 16, 32)),
    ("tf_efficientnet_lite0", 16, (4, 8, 16, 16)),
    ("mobilenetv3_small_050", 8, (4, 8, 8, 8)),
    ("convnext_atto", 8, (4, 8, 8, 8)),
    ("vit_small_patch16_dinov3", 16, (16,)),
]


def build(name, **kwargs):
    return ModelBuilder.build_encoder(f"timm/{name}", imagenet=False, **kwargs)


def noise(*size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=MODELS)
def encoder(request):
    torch.manual_seed(0)
    return build(request.param).eval()


@pytest.fixture(scope="module")
def small():
    """A network of 0.3 million weights with timm's BatchNorm-and-activation layer."""
    torch.manual_seed(0)
    return build("test_efficientnet").eval()


# The contract of every encoder


def test_channels_and_strides_are_those_of_timm_from_stride_4_on():
    plans = {name: plan(name) for name in MODELS}
    assert {name: (p.channels, p.strides, p.multiple) for name, p in plans.items()} == MODELS


@torch.no_grad()
def test_the_maps_of_an_image_of_odd_sides_have_those_channels_and_strides(encoder):
    x = noise(97, 129)
    before = x.clone()
    maps = encoder(x, return_feature_maps=True)
    (alone,) = encoder(x[1:])
    assert torch.equal(x, before)
    assert [tuple(values.shape) for values in maps] == [
        (2, channels, -(-97 // stride), -(-129 // stride))
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    assert all(values.isfinite().all() for values in maps)
    torch.testing.assert_close(alone, maps[-1][1:], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_an_image_of_any_size_has_maps(name):
    with torch.device("meta"):
        encoder = build(name).eval()
        for size in ((1, 1), (33, 40), (300, 201)):
            maps = encoder(torch.empty(1, 3, *size), return_feature_maps=True)
            assert [tuple(values.shape[2:]) for values in maps] == [
                tuple(-(-side // stride) for side in size) for stride in encoder.strides
            ]


def test_gradients_reach_every_parameter(encoder):
    encoder.train()
    (last,) = encoder(noise(33, 40))
    (last * torch.linspace(-1, 1, last.numel()).reshape(last.shape)).sum().backward()
    without = [
        name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    encoder.eval().zero_grad()
    assert without == []


@torch.no_grad()
@pytest.mark.parametrize("decoder_name", DECODERS)
@pytest.mark.parametrize("name", ["regnety_002", "vit_small_patch14_dinov2"])  # four maps, and one
def test_every_decoder_fits_unless_it_needs_more_maps(name, decoder_name):
    with torch.device("meta"):
        encoder = build(name)
    rate = encoder.strides[DECODERS[decoder_name].output_map]
    if len(encoder.channels) < DECODERS[decoder_name].min_maps:
        with pytest.raises(UserError, match=r"needs 2 feature maps or more, but encoder timm/x gives 1\."):
            check_pair(encoder, "timm/x", decoder_name, 2048, rate)
        return
    check_pair(encoder, "timm/x", decoder_name, 2048, rate)  # fc_dim is ResNet's, and not read
    decoder = ModelBuilder.build_decoder(decoder_name, channels=encoder.channels, num_class=3, dim=8)
    decoder.eval()
    maps = [torch.randn(1, width, 4, 5) for width in encoder.channels]
    result = decoder(maps)
    for values in result if decoder.deep_supervision else (result,):
        assert values.shape == (1, 3, 4, 5)


def test_every_batch_norm_is_synchronized_and_keeps_its_activation(encoder):
    norms = [x for x in encoder.modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(x, SynchronizedBatchNorm2d) for x in norms)


@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    ["mobilenetv3_small_050", "tf_efficientnet_lite0", "convnext_atto", "swin_tiny_patch4_window7_224"],
)
def test_the_maps_are_those_of_timm_for_an_image_normalized_as_it_expects(name):
    torch.manual_seed(0)
    encoder = build(name).eval()
    torch.manual_seed(0)
    original = timm.create_model(name, features_only=True, **plan(name).options).eval()
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(original.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = original((pixels - mean) / std)
    if original.pretrained_cfg["architecture"].startswith("swin"):
        expected = [x.permute(0, 3, 1, 2) for x in expected]
    imagenet = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    ours = (pixels - next(imagenet)) / next(imagenet)
    for values, wanted in zip(encoder(ours, return_feature_maps=True), expected, strict=True):
        torch.testing.assert_close(values, wanted, rtol=1e-3, atol=1e-3)


def test_the_mean_and_deviation_of_imagenet_are_those_of_timm():
    assert (MEAN, STD) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


# Output strides


@pytest.mark.parametrize(("name", "output_stride", "strides"), OTHER_STRIDES)
def test_the_maps_have_the_output_stride_that_was_asked_for(name, output_stride, strides):
    with torch.device("meta"):
        encoder = build(name, output_stride=output_stride).eval()
        maps = encoder(torch.empty(1, 3, 97, 129), return_feature_maps=True)
    assert encoder.strides == strides
    assert [x.shape[2] for x in maps] == [-(-97 // stride) for stride in strides]


@pytest.mark.parametrize(
    ("name", "stride", "known", "fix"),
    [
        ("timm/swin_tiny_patch4_window7_224", 8, "only 32", 0),
        ("timm/vit_small_patch16_dinov3", 8, "only 16", 0),
    ],
)
def test_an_output_stride_that_the_model_lacks_is_refused_with_those_it_has(name, stride, known, fix):
    assert refusal(name, output_stride=stride) == (
        f"MODEL.output_stride is {stride}, but {name} has {known}. "
        f"Set MODEL.output_stride {fix}, or choose another encoder."
    )


def test_an_encoder_outside_timm_has_one_output_stride():
    assert refusal("resnet18", output_stride=8) == (
        "MODEL.output_stride is 8, but resnet18 has 32. "
        "Set MODEL.output_stride 0, or take an encoder of timm."
    )
    with torch.device("meta"):
        assert ModelBuilder.build_encoder("resnet18dilated", imagenet=False, output_stride=8).strides[-1] == 8


# Names


def refusal(arch, imagenet=False, **kwargs):
    with pytest.raises(UserError) as error:
        ModelBuilder.build_encoder(arch, imagenet=imagenet, **kwargs)
    return str(error.value)


def test_an_unknown_name_is_refused_with_the_nearest_names():
    message = refusal("timm/mobilnetv3_large_100")
    assert message.startswith(
        f"MODEL.arch_encoder is 'timm/mobilnetv3_large_100', which timm {timm.__version__} does not have. "
        "Did you mean timm/mobilenetv3_large_100, timm/"
    )
    assert message.endswith("? timm.list_models() lists all models.")
    assert "Did you mean" not in refusal("timm/###")


def test_an_unknown_tag_is_refused_with_the_known_tags():
    assert refusal("timm/tf_efficientnet_lite0.in21k") == (
        "MODEL.arch_encoder is 'timm/tf_efficientnet_lite0.in21k', but timm/tf_efficientnet_lite0 "
        "has weights in1k. Remove 'in21k'."
    )


def test_a_model_for_one_image_size_only_is_refused():
    assert refusal("timm/beit_base_patch16_224") == (
        "MODEL.arch_encoder is 'timm/beit_base_patch16_224', which failed on images of other sizes than "
        "timm's 224 x 224. Choose another encoder, such as timm/resnet50."
    )


def test_a_model_with_a_minimum_size_is_not_padded_to_its_training_size():
    assert plan("inception_v3").multiple == 96  # it takes sides from 75, and was trained at 299


def test_an_encoder_whose_first_convolution_is_not_of_the_image_is_scored():
    encoder = build("csatv2").eval()
    decoder = ModelBuilder.build_decoder("c1", num_class=3, use_softmax=True, channels=encoder.channels)
    network = ScoringNetwork.prepared(SegmentationModule(encoder, decoder, None).eval(), torch.device("cpu"))
    assert network(noise(70, 90)).shape == (2, 2, 2, 3)


@register_model
def mapless(pretrained=False, features_only=False, **kwargs):
    if features_only:
        raise RuntimeError("features_only is not implemented\nfor this model.")
    return nn.Identity()


def test_a_model_without_feature_maps_is_refused():
    assert refusal("timm/mapless") == (
        f"MODEL.arch_encoder is 'timm/mapless', which returns no feature maps in timm {timm.__version__} "
        "(features_only is not implemented for this model.). Choose another encoder, such as timm/resnet50."
    )


def test_without_timm_the_error_names_the_command_that_installs_it(monkeypatch):
    for module in ("timm", "timm_encoder", "timm_weights", "timm_plan"):
        monkeypatch.delitem(sys.modules, f"mit_semseg.models.encoders.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refusal("timm/resnet18") == (
        "MODEL.arch_encoder is 'timm/resnet18', which needs the package timm. Run: pip install 'timm>=1.0.31'"
    )


# Weights


def test_a_failed_download_is_reported_with_the_ways_out(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal("timm/test_vit", imagenet=True)
    assert message.startswith("The weights of timm/test_vit could not be downloaded: ")
    assert message.endswith(
        "Set MODEL.pretrained False for random weights, or MODEL.weights_encoder to a checkpoint."
    )


def test_a_model_without_trained_weights_is_refused():
    assert refusal("timm/darknet17", imagenet=True) == (
        "timm has no trained weights for timm/darknet17. "
        "Set MODEL.pretrained False for random weights, or MODEL.weights_encoder to a checkpoint."
    )


def equal(net, state, rename=lambda name: name):
    return all(torch.equal(value, state[rename(name)]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_checkpoint_of_the_classifier_loads_without_its_classifier(tmp_path, kind):
    file = tmp_path / f"model.{kind}"
    state = timm.create_model("test_efficientnet", num_classes=7).state_dict()
    torch.save(state, file) if kind == "pth" else save_file(state, file)
    assert equal(build("test_efficientnet", weights=str(file)), state, lambda name: name.removeprefix("net."))


def test_a_classifier_whose_stages_timm_flattens_loads_too(tmp_path):
    state = timm.create_model("test_convnext").state_dict()
    torch.save(state, tmp_path / "model.pth")
    encoder = build("test_convnext", weights=str(tmp_path / "model.pth"))
    assert torch.equal(
        encoder.state_dict()["net.stages_1.blocks.0.mlp.fc1.weight"],
        state["stages.1.blocks.0.mlp.fc1.weight"],
    )


@pytest.mark.parametrize(
    "name", [*MODELS, "efficientvit_b0", "focalnet_tiny_srf", "hrnet_w18_small", "vgg11"]
)
def test_each_weight_has_one_name_in_the_classifier_and_its_shape(name):
    with torch.device("meta"):
        classifier = timm.create_model(name).state_dict()
        state = build(name).state_dict()
    names = {key: _original(key, classifier) for key in state}
    assert len(set(names.values())) == len(names)
    assert {key: classifier[other].shape for key, other in names.items()} == {
        key: value.shape for key, value in state.items()
    }


def test_a_transformer_of_another_image_size_loads_as_timm_translates_it(tmp_path):
    state = timm.create_model("test_vit", img_size=96).state_dict()
    torch.save(state, tmp_path / "model.pth")
    encoder = build("test_vit", weights=str(tmp_path / "model.pth"))
    loaded = encoder.state_dict()
    assert torch.equal(loaded["net.model.blocks.0.attn.qkv.weight"], state["blocks.0.attn.qkv.weight"])
    assert loaded["net.model.pos_embed"].shape != state["pos_embed"].shape


def test_a_checkpoint_of_a_run_loads(tmp_path, small):
    torch.save(small.state_dict(), tmp_path / "encoder_epoch_1.pth")
    loaded = build("test_efficientnet", weights=str(tmp_path / "encoder_epoch_1.pth"))
    assert equal(loaded, small.state_dict())


def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path):
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "model.pth")
    message = refusal("timm/test_efficientnet", weights=str(tmp_path / "model.pth"))
    assert message.startswith(f"{tmp_path}/model.pth does not fit encoder 'timm/test_efficientnet': ")
    assert message.endswith("Set MODEL.arch_encoder as in its training, or name another file.")


@pytest.mark.parametrize(("content", "reason"), [(None, "does not exist"), (b"<html>", "cannot be read")])
def test_a_damaged_or_missing_safetensors_file_is_named(tmp_path, content, reason):
    file = tmp_path / "model.safetensors"
    if content:
        file.write_bytes(content)
    assert refusal("timm/test_efficientnet", weights=str(file)).startswith(f"{file} {reason}")


# Scoring


@torch.no_grad()
def test_a_norm_with_an_activation_is_folded_into_its_convolution(small):
    decoder = ModelBuilder.build_decoder("c1", channels=small.channels, num_class=3, use_softmax=True)
    module = SegmentationModule(small, decoder, None).eval()
    network = ScoringNetwork.prepared(module, torch.device("cpu"))
    left = [x for x in network.module.modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)]
    assert left == []
    x = noise(97, 129)
    expected = decoder.logits(small(x, return_feature_maps=True)).permute(0, 2, 3, 1)
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_an_encoder_exports_with_dynamic_sizes(name):
    encoder = build(name).eval()
    sizes = {"x": {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(encoder, (torch.ones(1, 3, 64, 96),), dynamic_shapes=sizes).module()
    for size in ((97, 129), (96, 160)):
        x = noise(*size)[:1]
        torch.testing.assert_close(program(x)[0], encoder(x)[0], rtol=1e-3, atol=1e-3)
