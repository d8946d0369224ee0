from itertools import pairwise

import pytest
import torch
from test_encoders import CHANNELS_AND_STRIDES
from torch import nn

from mit_semseg.errors import UserError
from mit_semseg.models import ModelBuilder, SegmentationModule, check_pair
from mit_semseg.models.builder import DECODERS
from mit_semseg.models.decoders.base import Decoder, Style
from mit_semseg.models.decoders.ppm import POOL_SCALES
from mit_semseg.models.decoders.upernet import UPerNet
from mit_semseg.models.layers import NORMS, resize

CHANNELS = (4, 8, 12, 16)  # of small maps, as an encoder would give them
SIZES = ((9, 13), (5, 7), (3, 4), (2, 3))
# One encoder per combination of channels and strides, since a decoder depends on nothing else.
FORMS = {form: name for name, form in reversed(CHANNELS_AND_STRIDES.items())}.values()


def features(batch=2, sizes=SIZES):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, width, *size, generator=generator)
        for width, size in zip(CHANNELS, sizes, strict=True)
    ]


def build(name, num_class=11, use_softmax=False, channels=CHANNELS, dim=24, **style):
    """A narrow decoder with random weights."""
    torch.manual_seed(0)
    return ModelBuilder.build_decoder(
        name, channels=channels, num_class=num_class, use_softmax=use_softmax, dim=dim, **style
    )


class FirstMap(Decoder):
    """A decoder that takes the encoder's first map for its scores, and the second for the auxiliary ones."""

    def logits(self, features):
        return features[0]

    def aux_logits(self, features):
        return features[1]


# The tail that all decoders share


def test_probabilities_by_hand():
    scores = torch.tensor([[0.0, 4.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)
    decoder = FirstMap((2,), num_class=2, use_softmax=True)
    # Enlarged first, to 0 1 3 4 against 0; then softmax, which of two classes is the logistic function.
    first, second = decoder([scores], segSize=(1, 4))[0, :, 0]
    torch.testing.assert_close(first, torch.tensor([0.5, 0.73105858, 0.95257413, 0.98201379]))
    torch.testing.assert_close(second, 1 - first)
    assert decoder([scores]).shape == (1, 2, 1, 2)


def test_log_probabilities_by_hand():
    main, aux = torch.zeros(1, 4, 1, 1), torch.tensor([0.0, 0.0]).reshape(1, 2, 1, 1)
    decoder = FirstMap((4,), num_class=4)
    torch.testing.assert_close(decoder([main, aux]).exp(), torch.full((1, 4, 1, 1), 0.25))
    decoder.deep_supervision = True
    pair = decoder([main, aux])
    assert isinstance(pair, tuple)
    torch.testing.assert_close(pair[1].exp(), torch.full((1, 2, 1, 1), 0.5))


# The contract of every decoder


@pytest.mark.parametrize("num_class", [2, 150])
@pytest.mark.parametrize("name", DECODERS)
def test_in_training_it_gives_log_probabilities_and_a_pair_with_deep_supervision(name, num_class):
    decoder = build(name, num_class)
    result = decoder(features())
    assert isinstance(result, tuple) is decoder.deep_supervision is name.endswith("deepsup")
    for values in result if isinstance(result, tuple) else (result,):
        assert values.shape == (2, num_class, *SIZES[decoder.output_map])
        torch.testing.assert_close(values.exp().sum(1), torch.ones(values[:, 0].shape))


@pytest.mark.parametrize("name", DECODERS)
def test_in_inference_it_gives_probabilities_of_the_wanted_size(name):
    decoder = build(name, use_softmax=True).eval()
    with torch.no_grad():
        for size in ((33, 40), (1, 1), torch.Size((4, 5))):
            result = decoder(features(batch=1), segSize=size)
            assert result.shape == (1, 11, *size)
            assert result.min() >= 0
            torch.testing.assert_close(result.sum(1), torch.ones(1, *size))
        assert decoder(features(batch=1)).shape == (1, 11, *SIZES[decoder.output_map])


@pytest.mark.parametrize("name", DECODERS)
def test_maps_of_one_pixel_are_enough(name):
    decoder = build(name, use_softmax=True).eval()
    with torch.no_grad():
        result = decoder(features(batch=1, sizes=((1, 1),) * 4), segSize=(3, 2))
    torch.testing.assert_close(result.sum(1), torch.ones(1, 3, 2))


@pytest.mark.parametrize("name", DECODERS)
def test_gradients_reach_every_parameter_and_the_encoder(name):
    decoder = build(name)
    maps = [x.requires_grad_() for x in features()]
    result = decoder(maps)
    loss = sum(values[:, 1].sum() for values in (result if isinstance(result, tuple) else (result,)))
    loss.backward()
    assert [parameter for parameter, p in decoder.named_parameters() if p.grad is None] == []
    used = [i for i, x in enumerate(maps) if x.grad is not None]
    wanted = [0, 1, 2, 3] if name.startswith(("upernet", "segformer")) else [3]
    if name.startswith("deeplabv3plus"):
        wanted = [0, 3]
    assert used == sorted({*wanted, 2} if decoder.deep_supervision else wanted)


@pytest.mark.parametrize("name", DECODERS)
def test_the_scores_of_an_image_do_not_hang_on_its_batch(name):
    decoder = build(name, use_softmax=True).eval()
    with torch.no_grad():
        both = decoder(features())
        alone = decoder([x[1:] for x in features()])
    torch.testing.assert_close(alone, both[1:])


@pytest.mark.parametrize(
    ("deep", "plain"), [(name, name.removesuffix("_deepsup")) for name in DECODERS if "deepsup" in name]
)
def test_deep_supervision_changes_nothing_of_the_main_output(deep, plain):
    deep, plain = build(deep).eval(), build(plain).eval()
    plain.load_state_dict({name: value for name, value in deep.state_dict().items() if "deepsup" not in name})
    with torch.no_grad():
        assert torch.equal(deep(features())[0], plain(features()))


def test_the_auxiliary_output_of_a_finer_map_is_brought_to_the_size_of_the_labels():
    # ResNet without dilation: the last map but one has twice the resolution.
    main, aux = build("c1_deepsup")(features())
    assert aux.shape == main.shape == (2, 11, *SIZES[-1])
    same_size = FirstMap((2,), num_class=2)
    same_size.deep_supervision = True
    maps = [torch.randn(1, 2, 3, 5), torch.randn(1, 2, 3, 5)]
    assert torch.equal(same_size(maps)[1], maps[1].log_softmax(1))


# Width, dropout and normalization


@pytest.mark.parametrize("name", DECODERS)
def test_the_width_of_its_inner_maps_can_be_set(name):
    decoder = build(name)
    convolutions = [x for x in decoder.modules() if isinstance(x, nn.Conv2d) and x.groups == 1]
    assert {x.out_channels for x in convolutions} == {24, 11}
    assert sum(x.out_channels == 11 for x in convolutions) == 1 + decoder.deep_supervision


@pytest.mark.parametrize("name", DECODERS)
def test_dropout_comes_before_each_classifier_and_is_the_published_one_by_default(name):
    def rates(decoder):
        return [x.p for x in decoder.modules() if isinstance(x, nn.Dropout2d)]

    count = 1 + DECODERS[name].deep_supervision
    assert rates(build(name)) == ([] if name.startswith(("c1", "upernet")) else [0.1] * count)
    assert rates(build(name, dropout=0.3)) == [0.3] * count
    assert rates(build(name, dropout=0)) == []
    assert build(name, dropout=0.3).state_dict().keys() == build(name).state_dict().keys()


@pytest.mark.parametrize("name", DECODERS)
def test_dropped_channels_are_those_that_the_classifier_reads(name):
    # All but dropped: what is left is the classifier's bias, the same everywhere.
    decoder = build(name, dropout=0.9999999)
    result = decoder(features())
    for values in result if isinstance(result, tuple) else (result,):
        assert values.std((0, 2, 3)).max() < 1e-5


@pytest.mark.parametrize("name", DECODERS)
def test_group_norm_takes_the_place_of_every_batch_norm_and_one_image_is_a_batch(name):
    decoder = build(name, norm="group", dim=48, dropout=0)
    norms = [type(x) for x in decoder.modules() if "Norm" in type(x).__name__]
    plain = [x for x in build(name).modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)]
    assert norms == [nn.GroupNorm] * len(plain)
    both, alone = decoder(features()), decoder([x[1:] for x in features()])
    if decoder.deep_supervision:
        both, alone = both[0], alone[0]
    torch.testing.assert_close(alone, both[1:])


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (128, 32), (48, 8), (32, 8), (180, 4), (7, 1)])
def test_group_norm_has_32_groups_where_they_fit_with_four_channels_each(channels, groups):
    assert NORMS["group"](channels).num_groups == groups


# Single decoders


def test_upernet_enlarges_pooled_maps_after_the_convolution_with_the_result_of_before():
    decoder = build("upernet").eval()
    last = features()[-1]
    parts = [last]
    for scale, (conv, norm, relu) in zip(POOL_SCALES, decoder.ppm_conv, strict=True):
        pooled = nn.functional.adaptive_avg_pool2d(last, scale)
        parts.append(relu(norm(conv(resize(pooled, last.shape[-2:])))))
    with torch.no_grad():
        torch.testing.assert_close(
            decoder._pool(last), decoder.ppm_last_conv(torch.cat(parts, 1)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    ("name", "options", "images"),
    [
        ("ppm", {}, 2),
        ("ppm", {"pool_scales": (2, 3)}, 1),
        ("deeplabv3", {}, 2),
        ("c1", {}, 1),
        ("upernet", {}, 1),
        ("upernet", {"relu_first": True}, 2),
        ("upernet", {"relu_first": True, "pool_scales": (2, 3)}, 1),
    ],
)
def test_the_least_number_of_images_is_what_batch_norm_needs(name, options, images):
    style = Style(dim=24, **options)
    assert DECODERS[name].min_batch(style) == images
    decoder = DECODERS[name](CHANNELS, 3, style=style)
    decoder(features(batch=images))
    if images == 2:
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            decoder(features(batch=1))


def test_upernet_lite_is_upernet_of_half_the_width():
    published = [build(name, dim=0) for name in ("upernet", "upernet_lite")]
    assert [decoder.conv_last[1].in_channels for decoder in published] == [512, 256]


def test_upernet_takes_its_lateral_widths_from_the_encoder():
    # They were those of ResNet50, whatever the encoder.
    decoder = UPerNet((24, 32, 64, 160, 320), num_class=3)
    assert [layers[0].in_channels for layers in decoder.fpn_in] == [24, 32, 64, 160]


# Every pair


@pytest.mark.parametrize("decoder_name", DECODERS)
@pytest.mark.parametrize("encoder_name", FORMS)
def test_every_pair_works_or_is_refused(encoder_name, decoder_name):
    with torch.device("meta"):
        encoder = ModelBuilder.build_encoder(encoder_name, imagenet=False)
    rate = encoder.strides[DECODERS[decoder_name].output_map]
    if len(encoder.channels) < DECODERS[decoder_name].min_maps:
        with pytest.raises(UserError, match=rf"^Decoder {decoder_name} needs 2 feature maps"):
            check_pair(encoder, encoder_name, decoder_name, 720, rate)
        return
    check_pair(encoder, encoder_name, decoder_name, encoder.channels[-1], rate)
    decoder = _decoder_for(decoder_name, encoder.channels)
    maps = [
        torch.randn(1, width, 64 // stride, 96 // stride)
        for width, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    with torch.no_grad():
        decoder.use_softmax = True
        result = decoder(maps, segSize=(37, 50))
        assert result.shape == (1, 3, 37, 50)
        torch.testing.assert_close(result.sum(1), torch.ones(1, 37, 50))
        decoder.use_softmax = False
        result = decoder(maps)
    for values in result if isinstance(result, tuple) else (result,):
        assert values.shape == (1, 3, 64 // rate, 96 // rate)  # as the labels of such an image in training
        torch.testing.assert_close(values.exp().sum(1), torch.ones(values[:, 0].shape))


def _decoder_for(name, channels):
    """Small random weights: the plain ones would take seconds, and any will do."""
    with torch.device("meta"):
        decoder = ModelBuilder.build_decoder(name, channels=channels, num_class=3, dim=24)
    decoder.to_empty(device="cpu").eval()
    for value in decoder.state_dict().values():
        value.fill_(0.01 if value.is_floating_point() else 0)
    for layer in decoder.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_running_stats()
    return decoder


# Export


class Pair(nn.Module):
    """What is exported: from an image to probabilities of its size."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, img):
        return self.decoder(self.encoder(img, return_feature_maps=True), segSize=img.shape[-2:])


@pytest.fixture(scope="module")
def small_encoder():
    torch.manual_seed(0)
    return ModelBuilder.build_encoder("mobilenetv2dilated", imagenet=False).eval()


class FourLayers(nn.Module):
    """An encoder with one convolution per map, so that a trace takes a fraction of the time."""

    channels = CHANNELS

    def __init__(self):
        super().__init__()
        widths = (3, *CHANNELS)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )

    def forward(self, img, return_feature_maps=False):
        maps = [img]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]


@pytest.fixture
def pair(small_encoder):
    def make(encoder_name, decoder_name):
        torch.manual_seed(0)
        encoder = small_encoder if encoder_name == "mobilenetv2dilated" else FourLayers()
        decoder = build(decoder_name, num_class=3, use_softmax=True, channels=encoder.channels)
        return Pair(encoder, decoder).eval()

    return make


# An encoder of the package, and the decoders whose code differs: others only have another width, or lack a
# branch for training.
EXPORTED = [("mobilenetv2dilated", "c1"), ("four layers", "ppm_deepsup"), ("four layers", "upernet_deepsup")]


EXAMPLE, OTHER = torch.ones(1, 3, 40, 56), torch.linspace(-2, 2, 3 * 65 * 97).reshape(1, 3, 65, 97)


@torch.no_grad()
@pytest.mark.parametrize(("encoder_name", "decoder_name"), EXPORTED)
def test_a_pair_exported_with_dynamic_sizes_answers_images_of_other_sizes(pair, encoder_name, decoder_name):
    pair = pair(encoder_name, decoder_name)
    sizes = {"img": {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(pair, (EXAMPLE,), dynamic_shapes=sizes)
    torch.testing.assert_close(program.module()(OTHER), pair(OTHER), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings(r"ignore:`?torch\.jit\.trace(_method)?`? is deprecated:FutureWarning")
@pytest.mark.filterwarnings(r"ignore:`?torch\.jit\.trace(_method)?`? is deprecated:DeprecationWarning")
@torch.no_grad()
@pytest.mark.parametrize(
    ("encoder_name", "decoder_name"),
    [*(("four layers", name) for name in DECODERS), ("mobilenetv2dilated", "c1")],
)
def test_a_traced_pair_answers_images_of_other_sizes(pair, encoder_name, decoder_name):
    pair = pair(encoder_name, decoder_name)
    traced = torch.jit.trace(pair, EXAMPLE, check_trace=False)
    torch.testing.assert_close(traced(OTHER), pair(OTHER), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_segmentation_module_exports_too(pair):
    pair = pair("four layers", "c1")
    module = SegmentationModule(pair.encoder, pair.decoder, None).eval()
    program = torch.export.export(module, ({"img_data": EXAMPLE},), {"segSize": (40, 56)})
    torch.testing.assert_close(
        program.module()({"img_data": EXAMPLE}, segSize=(40, 56)),
        module({"img_data": EXAMPLE}, segSize=(40, 56)),
        rtol=1e-3,
        atol=1e-4,
    )
