from pathlib import Path

import pytest
import torch
from torch import nn

from mit_semseg.errors import UserError
from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.models import ModelBuilder, check_pair
from mit_semseg.models.builder import DECODERS, ENCODERS
from mit_semseg.models.encoders.resnet import resnet18


def refusal(action, *args, **kwargs):
    with pytest.raises(UserError) as error, torch.device("meta"):
        action(*args, **kwargs)
    return str(error.value)


def without_numbers(arch):
    with torch.device("meta"):
        return ModelBuilder.build_encoder(arch, imagenet=False)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """An empty mirror of the published weights, and an empty cache."""
    folder = tmp_path / "mirror"
    (folder / "pretrained_resnet").mkdir(parents=True)
    monkeypatch.setenv("MIT_SEMSEG_MIRROR", folder.as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return folder


# Names


@pytest.mark.parametrize("name", ["ResNet18Dilated", "resnet18dilated", "RESNET18DILATED"])
def test_names_are_known_in_any_case(name):
    assert without_numbers(name).strides == (4, 8, 8, 8)


@pytest.mark.parametrize(("name", "fpn_dim"), [("UPerNet", 512), ("upernet_LITE", 256), ("upernet_tiny", 64)])
def test_names_of_decoders_are_known_in_any_case(name, fpn_dim):
    with torch.device("meta"):
        assert ModelBuilder.build_decoder(name).fpn_dim == fpn_dim


def test_an_unknown_name_is_told_with_the_nearest_and_with_all():
    assert refusal(ModelBuilder.build_encoder, "resnet50dialated", imagenet=False) == (
        "MODEL.arch_encoder is 'resnet50dialated', which is not a known encoder. Did you mean "
        f"resnet50dilated? The encoders are {', '.join(ENCODERS)} and timm/NAME, for the models of timm."
    )
    assert refusal(ModelBuilder.build_decoder, "xyz") == (
        "MODEL.arch_decoder is 'xyz', which is not a known decoder. "
        "The decoders are c1, c1_deepsup, ppm, ppm_deepsup, upernet, upernet_deepsup, upernet_lite, "
        "upernet_tiny, fcn, fcn_deepsup, deeplabv3, deeplabv3_deepsup, deeplabv3plus, deeplabv3plus_deepsup, "
        "segformer, segformer_deepsup, eomt."
    )


# Pairs


def test_a_decoder_that_needs_more_maps_is_refused_with_the_reason():
    hrnet = without_numbers("hrnetv2")
    assert refusal(check_pair, hrnet, "hrnetv2", "C1_deepsup", 720, 4) == (
        "Decoder c1_deepsup needs 2 feature maps or more, but encoder hrnetv2 gives 1. "
        "Set MODEL.arch_decoder to one of c1, ppm, fcn, deeplabv3, segformer, or take another encoder."
    )
    for decoder in ("ppm_deepsup", "upernet", "upernet_lite"):
        assert refusal(check_pair, hrnet, "hrnetv2", decoder, 720, 4).startswith(f"Decoder {decoder} needs 2")
    check_pair(hrnet, "hrnetv2", "c1", 720, 4)
    check_pair(hrnet, "hrnetv2", "ppm", 720, 4)


def test_channels_that_the_encoder_does_not_have_are_refused_with_those_it_has():
    assert refusal(check_pair, without_numbers("resnet18dilated"), "resnet18dilated", "c1", 2048, 8) == (
        "MODEL.fc_dim is 2048, but resnet18dilated ends with 512 channels. Set MODEL.fc_dim 512."
    )


@pytest.mark.parametrize(
    ("encoder", "decoder", "fc_dim", "stride"),
    [
        ("resnet50dilated", "ppm_deepsup", 2048, 8),
        ("resnet50", "ppm", 2048, 32),
        ("resnet50", "upernet", 2048, 4),
        ("mobilenetv2dilated", "c1_deepsup", 320, 8),
        ("hrnetv2", "c1", 720, 4),
    ],
)
def test_the_stride_of_the_labels_has_to_be_that_of_the_scores(encoder, decoder, fc_dim, stride):
    net = without_numbers(encoder)
    check_pair(net, encoder, decoder, fc_dim, stride)
    assert refusal(check_pair, net, encoder, decoder, fc_dim, 16) == (
        f"DATASET.segm_downsampling_rate is 16, but {decoder} on {encoder} predicts at stride {stride}. "
        f"Set DATASET.segm_downsampling_rate {stride}."
    )


# Decoders


def test_the_widths_of_a_resnet_follow_from_fc_dim():
    with torch.device("meta"):
        given = ModelBuilder.build_decoder("upernet", channels=(64, 128, 256, 512), num_class=7)
        derived = ModelBuilder.build_decoder("upernet", fc_dim=512, num_class=7)
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (given, derived)]
    assert shapes[0] == shapes[1]


def test_a_decoder_is_built_as_ever_with_positional_arguments_and_on_an_instance(tmp_path):
    weights = ModelBuilder.build_decoder("c1", 64, 5).state_dict()
    torch.save(weights, tmp_path / "decoder.pth")
    decoder = ModelBuilder().build_decoder("c1", 64, 5, str(tmp_path / "decoder.pth"), True)
    assert decoder.use_softmax
    assert all(torch.equal(value, weights[name]) for name, value in decoder.state_dict().items())


@pytest.mark.parametrize("name", DECODERS)
def test_every_batch_norm_can_be_synchronized(name):
    with torch.device("meta"):
        nets = [ModelBuilder.build_decoder(name), *map(without_numbers, ("resnet18", "mobilenetv2dilated"))]
    for net in nets:
        norms = [x for x in net.modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)]
        assert norms
        assert all(isinstance(x, SynchronizedBatchNorm2d) for x in norms)


# Weights


def test_random_weights_by_hand():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(100, 200, 3), nn.BatchNorm2d(8)
    norm.weight.data.zero_()
    ModelBuilder.weights_init(conv)
    ModelBuilder.weights_init(norm)
    # He et al. 2015: a standard deviation of sqrt(2 / (100 * 3 * 3))
    assert conv.weight.std().item() == pytest.approx(0.0471, rel=0.01)
    assert norm.weight.tolist() == [1] * 8
    assert norm.bias.tolist() == pytest.approx([1e-4] * 8)
    ModelBuilder.weights_init(nn.BatchNorm2d(8, affine=False))
    ModelBuilder.weights_init(nn.ReLU())


def test_the_seed_decides_on_random_weights():
    def build(seed):
        torch.manual_seed(seed)
        return ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False).state_dict()

    first, again, other = build(1), build(1), build(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.0.weight"], other["features.0.0.weight"])


def test_without_a_checkpoint_an_encoder_starts_from_imagenet(mirror):
    classifier = resnet18()
    torch.save(classifier.state_dict(), mirror / "pretrained_resnet" / "resnet18-imagenet.pth")
    encoder = ModelBuilder.build_encoder("resnet18dilated")
    expected = classifier.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())


def test_random_weights_ask_for_no_download(mirror):
    ModelBuilder.build_encoder("resnet18", imagenet=False)
    assert not (mirror.parent / "torch").exists()


def test_an_encoder_loads_the_checkpoint_that_it_is_given(tmp_path, mirror):
    encoder = ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False)
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    loaded = ModelBuilder.build_encoder("mobilenetv2dilated", 320, str(tmp_path / "encoder.pth"))
    mine = encoder.state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in loaded.state_dict().items())


def test_the_published_encoder_with_the_buffers_of_its_time_loads(tmp_path):
    encoder = without_numbers("resnet50dilated")
    old = {}
    for name, value in encoder.state_dict().items():
        if name.endswith("num_batches_tracked"):
            prefix = name.removesuffix("num_batches_tracked")
            width = encoder.state_dict()[f"{prefix}weight"].shape
            old |= {f"{prefix}_tmp_running_{which}": torch.ones(width) for which in ("mean", "var")}
        else:
            old[name] = torch.full(value.shape, 0.5)
    assert len(old) == 385  # 55 convolutions, 55 BatchNorms of six
    torch.save(old, tmp_path / "encoder_epoch_20.pth")
    loaded = ModelBuilder.build_encoder("resnet50dilated", weights=str(tmp_path / "encoder_epoch_20.pth"))
    assert loaded.bn1.num_batches_tracked == 0
    assert all(float(p.detach().min()) == float(p.detach().max()) == 0.5 for p in loaded.parameters())


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    file = Path(tmp_path / "encoder_epoch_1.pth")
    torch.save(ModelBuilder.build_encoder("resnet18", imagenet=False).state_dict(), file)
    with pytest.raises(UserError, match=r"does not fit encoder 'resnet34'") as error:
        ModelBuilder.build_encoder("ResNet34", weights=str(file))
    assert str(file) in str(error.value)
