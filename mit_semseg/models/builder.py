"""Encoders and decoders by name. To add one, write its file and add a line to a table here."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import UserError
from ..runtime.near_names import suggestion
from .decoders.base import Decoder, Style
from .decoders.c1 import C1, C1DeepSup
from .decoders.deeplab import DeepLabV3, DeepLabV3Deepsup, DeepLabV3Plus, DeepLabV3PlusDeepsup
from .decoders.eomt import EoMT
from .decoders.fcn import FCN, FCNDeepsup
from .decoders.ppm import PPM, PPMDeepsup
from .decoders.segformer import Segformer, SegformerDeepsup
from .decoders.upernet import UPerNet, UPerNetDeepsup, UPerNetLite, UPerNetTiny
from .encoders.convnext import ConvNeXt
from .encoders.hrnet import HRNet, hrnetv2
from .encoders.mit import MixTransformer
from .encoders.mobilenet import MobileNetV2Dilated, MobileNetV2Stages, mobilenetv2
from .encoders.resnet import Resnet, ResnetDilated, resnet18, resnet34, resnet50, resnet101, resnext101
from .encoders.resnet_variants import DEPTHS, VARIANTS, ResNetVariant
from .encoders.swin import Swin
from .encoders.vit import VisionTransformer
from .input_channels import RGB, set_input_channels
from .options import decoder_options, encoder_options, read_options
from .weights.fit import load_weights
from .weights.packaged import PREFIX, packaged_file
from .weights.pretrained import imagenet_weights

TIMM = "timm/"  # prefix of the models of timm, most of which can be encoders

_T = TypeVar("_T")
_NONE: Mapping[str, Any] = {}

# Each builds an encoder with random weights. Its `channels` and `strides` describe its maps, finest first.
# Its keyword-only parameters are the options of the encoder.
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "mobilenetv2dilated": lambda: MobileNetV2Dilated(mobilenetv2(), dilate_scale=8),
    "resnet18": lambda: Resnet(resnet18()),
    "resnet18dilated": lambda: ResnetDilated(resnet18(), dilate_scale=8),
    "resnet34": lambda: Resnet(resnet34()),
    "resnet34dilated": lambda: ResnetDilated(resnet34(), dilate_scale=8),
    "resnet50": lambda: Resnet(resnet50()),
    "resnet50dilated": lambda: ResnetDilated(resnet50(), dilate_scale=8),
    "resnet101": lambda: Resnet(resnet101()),
    "resnet101dilated": lambda: ResnetDilated(resnet101(), dilate_scale=8),
    "resnext101": lambda: Resnet(resnext101()),
    "hrnetv2": hrnetv2,
    **{
        f"resnet{depth}_{variant}": partial(ResNetVariant, depth, variant)
        for depth in DEPTHS
        for variant in VARIANTS
    },
    "mobilenetv2": MobileNetV2Stages,
    "hrnet_w18_small": partial(HRNet, modules=(1, 3, 2), blocks=(2, 2, 2, 2)),
    "hrnet_w18": HRNet,
    "hrnet_w48": partial(HRNet, widths=(48, 96, 192, 384)),
    "mit_b0": MixTransformer,
    **{
        f"mit_b{size}": partial(MixTransformer, depths=depths, widths=(64, 128, 320, 512))
        for size, depths in enumerate(
            ((2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 18, 3), (3, 8, 27, 3), (3, 6, 40, 3)), 1
        )
    },
    "convnext_tiny": ConvNeXt,
    "convnext_small": partial(ConvNeXt, depths=(3, 3, 27, 3)),
    "convnext_base": partial(ConvNeXt, depths=(3, 3, 27, 3), widths=(128, 256, 512, 1024)),
    "convnext_large": partial(ConvNeXt, depths=(3, 3, 27, 3), widths=(192, 384, 768, 1536)),
    "convnext_xlarge": partial(ConvNeXt, depths=(3, 3, 27, 3), widths=(256, 512, 1024, 2048)),
    "swin_tiny": Swin,
    "swin_small": partial(Swin, depths=(2, 2, 18, 2)),
    "swin_base": partial(Swin, depths=(2, 2, 18, 2), width=128, heads=(4, 8, 16, 32), window=12),
    "swin_large": partial(Swin, depths=(2, 2, 18, 2), width=192, heads=(6, 12, 24, 48), window=12),
    "dinov2_small": partial(VisionTransformer, width=384, heads=6),
    "dinov2_base": VisionTransformer,
    "dinov2_large": partial(VisionTransformer, depth=24, width=1024, heads=16),
    "dinov2_giant": partial(VisionTransformer, depth=40, width=1536, heads=24, gated=True),
    **{
        f"dinov3_{size}": partial(
            VisionTransformer, depth=depth, width=width, heads=heads, grid=0, key_bias=False, eps=1e-5
        )
        for size, depth, width, heads in (
            ("small", 12, 384, 6),
            ("base", 12, 768, 12),
            ("large", 24, 1024, 16),
        )
    },
}

# These read the maps of an encoder.
DECODERS: dict[str, type[Decoder]] = {
    "c1": C1,
    "c1_deepsup": C1DeepSup,
    "ppm": PPM,
    "ppm_deepsup": PPMDeepsup,
    "upernet": UPerNet,
    "upernet_deepsup": UPerNetDeepsup,
    "upernet_lite": UPerNetLite,
    "upernet_tiny": UPerNetTiny,
    "fcn": FCN,
    "fcn_deepsup": FCNDeepsup,
    "deeplabv3": DeepLabV3,
    "deeplabv3_deepsup": DeepLabV3Deepsup,
    "deeplabv3plus": DeepLabV3Plus,
    "deeplabv3plus_deepsup": DeepLabV3PlusDeepsup,
    "segformer": Segformer,
    "segformer_deepsup": SegformerDeepsup,
}

# These predict masks by queries, which join the tokens of an encoder.
QUERY_DECODERS: dict[str, type[Decoder]] = {
    "eomt": EoMT,
}

ALL_DECODERS: dict[str, type[Decoder]] = {**DECODERS, **QUERY_DECODERS}


class ModelBuilder:
    """Builds encoders and decoders with their weights."""

    @staticmethod
    def build_encoder(
        arch: str = "resnet50dilated",
        fc_dim: int = 512,
        weights: str = "",
        imagenet: bool = True,
        output_stride: int = 0,
        options: Mapping[str, Any] = _NONE,
        in_channels: int = RGB,
        adapt: bool = True,
    ) -> nn.Module:
        """An encoder with its weights.

        Args:
            arch: a name in ``ENCODERS``, in any case, or ``timm/`` and the name of a timm model.
            fc_dim: ignored, because an encoder knows its channels; kept for existing callers.
            weights: a checkpoint; a model of another program, as for ``mit-semseg import``; or ``package:``
                and a name in ``mit_semseg.models.weights.packaged.PACKAGES``; "" for ImageNet's weights,
                which are downloaded once.
            imagenet: whether "" means ImageNet's weights; False for random ones.
            output_stride: stride of a timm model's last map; 0 for the model's own.
            options: values of the encoder's options; see `mit_semseg.models.options`.
            in_channels: channels of the images, the attribute ``in_channels`` of the encoder.
            adapt: whether ``weights`` for RGB are adapted to other ``in_channels``, as ImageNet's are, by the
                rule of `mit_semseg.models.input_channels`. False refuses them.

        Raises: UserError for an unknown name or option, and for weights that do not fit or cannot be
            downloaded.
        """
        key = "MODEL.encoder_options"
        if is_timm(arch):
            read_options(options, {}, key, arch)
            return _build_timm(arch, weights, imagenet, output_stride, in_channels, adapt)
        name, build = look_up(arch, ENCODERS, "MODEL.arch_encoder", "encoder")
        check_packaged(weights, name)
        values = read_options(options, encoder_options(build), key, name)
        try:
            net = build(**values)
        except ValueError as error:
            raise UserError(f"{key}: {error}.") from None
        strides: tuple[int, ...] = net.strides  # type: ignore[assignment]
        if output_stride not in (0, strides[-1]):
            raise UserError(
                f"MODEL.output_stride is {output_stride}, but {name} has {strides[-1]}. "
                "Set MODEL.output_stride 0, or take an encoder of timm."
            )
        set_input_channels(net, in_channels)
        net.in_channels = in_channels  # type: ignore[assignment]
        if weights:
            _load(net, weights, part="encoder", arch=name, options=options, adapt=adapt)
        elif imagenet:
            load_weights(net, imagenet_weights(name), part="encoder", arch=name, adapt=True)
        else:
            net.apply(ModelBuilder.weights_init)
        return net

    @staticmethod
    def build_decoder(
        arch: str = "ppm_deepsup",
        fc_dim: int = 512,
        num_class: int = 150,
        weights: str = "",
        use_softmax: bool = False,
        channels: tuple[int, ...] | None = None,
        dim: int = 0,
        dropout: float = -1.0,
        norm: str = "batch",
        reset_classifier: bool = False,
        options: Mapping[str, Any] = _NONE,
    ) -> Decoder:
        """A decoder with its weights.

        Args:
            arch: a name in ``ALL_DECODERS``, in any case.
            fc_dim: channels of the encoder's last map. Used only without ``channels``, for the
                maps of a ResNet: four maps, each with twice the channels of the previous one.
            weights: a checkpoint, or a model of another program; "" for random weights.
            use_softmax: True for inference, False for training.
            channels: channels of all maps of the encoder, finest first.
            dim: channels of the decoder's inner maps; 0 for the published width.
            dropout: probability of dropping a channel before a classifier; negative for the published one.
            norm: a name in ``mit_semseg.models.layers.NORMS``.
            reset_classifier: keep random weights in the layers that output class scores. ``weights`` may then
                have another number of classes.
            options: further fields of `mit_semseg.models.decoders.base.Style`, of which each decoder reads
                some.

        Raises: UserError for an unknown name or option, and for weights that do not fit.
        """
        name, build = look_up(arch, ALL_DECODERS, "MODEL.arch_decoder", "decoder")
        if channels is None:
            channels = channels_for(fc_dim)
        style = decoder_style(name, dim, dropout, norm, options)
        try:
            net = build(channels, num_class, use_softmax, style)
        except ValueError as error:
            raise UserError(f"MODEL.decoder_options: {error}.") from None
        if reset_classifier or not weights:
            net.apply(ModelBuilder.weights_init)
        if weights:
            fresh: list[str] = []
            if reset_classifier:
                with torch.device("meta"):  # no memory, no random numbers
                    other = build(channels, num_class + 1, style=style)
                fresh = _reshaped(net, other)
            _load(net, weights, part="decoder", arch=name, options=options, fresh=fresh)
        return net

    @staticmethod
    def weights_init(m: nn.Module) -> None:
        """Initialize one layer: convolutions as in He et al. 2015, BatchNorm close to the identity."""
        if isinstance(m, nn.Conv2d):
            if not m.weight.is_meta:  # the first random numbers there would import much of torch, for 2 s
                nn.init.kaiming_normal_(m.weight)
        elif isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine:
            nn.init.ones_(m.weight)
            nn.init.constant_(m.bias, 1e-4)


def channels_for(fc_dim: int) -> tuple[int, int, int, int]:
    """Channels of a ResNet's maps, finest first, of which the last has ``fc_dim``."""
    return fc_dim // 8, fc_dim // 4, fc_dim // 2, fc_dim


def _load(net: nn.Module, source: str, **about: Any) -> None:
    """Load weights; see `mit_semseg.models.foreign.start.load_any_weights`."""
    from .foreign.start import load_any_weights  # which needs the tables of this module

    load_any_weights(net, source, **about)


def _reshaped(net: nn.Module, other: nn.Module) -> list[str]:
    """The names of the weights whose shapes differ between two networks with the same weight names."""
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    return [name for name, value in net.state_dict().items() if value.shape != shapes[name]]


def decoder_style(
    arch: str,
    dim: int = 0,
    dropout: float = -1.0,
    norm: str = "batch",
    options: Mapping[str, Any] = _NONE,
) -> Style:
    """The style of a decoder of that name. Arguments as for `ModelBuilder.build_decoder`.

    Raises: UserError for an option that the decoder does not have, or of another type.
    """
    known = decoder_options(ALL_DECODERS[arch])
    return Style(dim, dropout, norm)._replace(
        **read_options(options, known, "MODEL.decoder_options", f"decoder {arch}")
    )


def is_timm(arch: str) -> bool:
    """Whether an encoder is a model of timm."""
    return arch.lower().startswith(TIMM)


def check_packaged(weights: str, arch: str) -> None:
    """Check that weights named ``package:NAME`` exist and are for encoder ``arch``.

    Raises: UserError if not; see :func:`mit_semseg.models.weights.packaged.packaged_file`.
    """
    if weights.startswith(PREFIX):
        packaged_file(weights, arch)


def _build_timm(
    arch: str, weights: str, imagenet: bool, output_stride: int, in_channels: int, adapt: bool
) -> nn.Module:
    try:
        from .encoders.timm_encoder import TimmEncoder
        from .encoders.timm_weights import load_timm_weights
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise UserError(
            f"MODEL.arch_encoder is '{arch}', which needs the package timm. Run: pip install 'timm>=1.0.31'"
        ) from error
    check_packaged(weights, arch)
    name = arch[len(TIMM) :]
    net = TimmEncoder(name, output_stride, imagenet and not weights, in_channels)
    if weights:
        load_timm_weights(net, weights, name, adapt=adapt)
    return net


def look_up(arch: str, table: Mapping[str, _T], key: str, kind: str) -> tuple[str, _T]:
    """The name of an architecture as its table spells it, and its entry. Raises: UserError if it has none."""
    name = arch.lower()
    if name not in table:
        others = f" and {TIMM}NAME, for the models of timm" if kind == "encoder" else ""
        raise UserError(
            f"{key} is '{arch}', which is not a known {kind}. {suggestion(name, table)}"
            f"The {kind}s are {', '.join(table)}{others}."
        )
    return name, table[name]
