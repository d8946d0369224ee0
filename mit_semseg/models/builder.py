"""Encoders and decoders by name. A new one is a line in a table here and a file beside the others."""

import difflib
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import nn

from ..checkpoint import load_weights
from ..errors import UserError
from .decoders.base import Decoder, Style
from .decoders.c1 import C1, C1DeepSup
from .decoders.ppm import PPM, PPMDeepsup
from .decoders.upernet import UPerNet, UPerNetDeepsup, UPerNetLite, UPerNetTiny
from .encoders.hrnet import hrnetv2
from .encoders.mobilenet import MobileNetV2Dilated, mobilenetv2
from .encoders.resnet import Resnet, ResnetDilated, resnet18, resnet34, resnet50, resnet101, resnext101
from .packaged import PREFIX, packaged_file
from .pretrained import imagenet_weights

TIMM = "timm/"  # before the name of a model of timm, most of which are encoders too

# Each builds an encoder with random weights, which publishes `channels` and `strides` of its maps, finest
# first.
ENCODERS: dict[str, Callable[[], nn.Module]] = {
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
}

DECODERS: dict[str, type[Decoder]] = {
    "c1": C1,
    "c1_deepsup": C1DeepSup,
    "ppm": PPM,
    "ppm_deepsup": PPMDeepsup,
    "upernet": UPerNet,
    "upernet_deepsup": UPerNetDeepsup,
    "upernet_lite": UPerNetLite,
    "upernet_tiny": UPerNetTiny,
}


_T = TypeVar("_T")


class ModelBuilder:
    """Builds encoders and decoders with their weights."""

    @staticmethod
    def build_encoder(
        arch: str = "resnet50dilated",
        fc_dim: int = 512,
        weights: str = "",
        imagenet: bool = True,
        output_stride: int = 0,
    ) -> nn.Module:
        """An encoder.

        Args:
            arch: a name in ``ENCODERS``, in any case, or ``timm/`` and the name of a model of timm.
            fc_dim: not read, since an encoder knows its channels; kept for existing callers.
            weights: a checkpoint, or ``package:`` and a name in ``mit_semseg.models.packaged.PACKAGES``;
                empty for ImageNet's weights, which are downloaded once.
            imagenet: False leaves random weights where ``weights`` is empty.
            output_stride: of a timm model's last map; 0 for its own.

        Raises: UserError for an unknown name and for weights that don't fit or can't be had.
        """
        if is_timm(arch):
            return _build_timm(arch, weights, imagenet, output_stride)
        name, build = _look_up(arch, ENCODERS, "MODEL.arch_encoder", "encoder")
        check_packaged(weights, name)
        net = build()
        strides: tuple[int, ...] = net.strides  # type: ignore[assignment]
        if output_stride not in (0, strides[-1]):
            raise UserError(
                f"MODEL.output_stride is {output_stride}, but {name} has {strides[-1]}. "
                "Set MODEL.output_stride 0, or take an encoder of timm."
            )
        if weights or imagenet:
            file = weights or imagenet_weights(name)
            load_weights(net, file, part="encoder", arch=name)
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
    ) -> Decoder:
        """A decoder.

        Args:
            arch: a name in ``DECODERS``, in any case.
            fc_dim: channels of the encoder's last map. It stands for ``channels`` where those are not given,
                as in a ResNet: four maps, each of twice the channels of the one before.
            weights: a checkpoint; empty for random weights.
            use_softmax: True for inference, False for training.
            channels: of all the encoder's maps, finest first.
            dim: channels of its inner maps; 0 for the published width.
            dropout: probability of dropping a channel before a classifier; negative for the published one.
            norm: a name in ``mit_semseg.models.layers.NORMS``.
            reset_classifier: of ``weights``, which may be of another class count then, take all but the
                layers that give the classes' scores; those are random.

        Raises: UserError for an unknown name and for weights that don't fit.
        """
        name, build = _look_up(arch, DECODERS, "MODEL.arch_decoder", "decoder")
        if channels is None:
            channels = (fc_dim // 8, fc_dim // 4, fc_dim // 2, fc_dim)
        style = Style(dim, dropout, norm)
        net = build(channels, num_class, use_softmax, style)
        if reset_classifier or not weights:
            net.apply(ModelBuilder.weights_init)
        if weights:
            fresh: list[str] = []
            if reset_classifier:
                with torch.device("meta"):  # no memory, no random numbers
                    other = build(channels, num_class + 1, style=style)
                fresh = _reshaped(net, other)
            load_weights(net, weights, part="decoder", arch=name, fresh=fresh)
        return net

    @staticmethod
    def weights_init(m: nn.Module) -> None:
        """Random weights for one layer: convolutions after He et al. 2015, BatchNorm the identity."""
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight)
        elif isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine:
            nn.init.ones_(m.weight)
            nn.init.constant_(m.bias, 1e-4)


def _reshaped(net: nn.Module, other: nn.Module) -> list[str]:
    """The weights whose shapes differ between two networks with the same names."""
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    return [name for name, value in net.state_dict().items() if value.shape != shapes[name]]


def check_pair(encoder: nn.Module, arch_encoder: str, arch_decoder: str, fc_dim: int, rate: int) -> None:
    """Refuse an encoder and a decoder that can't work together, and figures in the config that aren't theirs.

    Args:
        encoder: what ``arch_encoder`` built.
        fc_dim: channels of the encoder's last map, as the config has it; not read for an encoder of timm.
        rate: stride at which labels are compared with the decoder's scores, as the config has it.

    Raises: UserError with the reason and the value to set.
    """
    channels: tuple[int, ...] = encoder.channels  # type: ignore[assignment]
    strides: tuple[int, ...] = encoder.strides  # type: ignore[assignment]
    name, decoder = _look_up(arch_decoder, DECODERS, "MODEL.arch_decoder", "decoder")
    if len(channels) < decoder.min_maps:
        others = ", ".join(other for other in DECODERS if DECODERS[other].min_maps <= len(channels))
        raise UserError(
            f"Decoder {name} needs {decoder.min_maps} feature maps or more, but encoder {arch_encoder} gives "
            f"{len(channels)}. Set MODEL.arch_decoder to one of {others}, or take another encoder."
        )
    if fc_dim != channels[-1] and not is_timm(arch_encoder):
        raise UserError(
            f"MODEL.fc_dim is {fc_dim}, but {arch_encoder} ends with {channels[-1]} channels. "
            f"Set MODEL.fc_dim {channels[-1]}."
        )
    stride = strides[decoder.output_map]
    if rate != stride:
        raise UserError(
            f"DATASET.segm_downsampling_rate is {rate}, but {name} on {arch_encoder} predicts at stride "
            f"{stride}. Set DATASET.segm_downsampling_rate {stride}."
        )


def is_timm(arch: str) -> bool:
    """Whether an encoder is a model of timm."""
    return arch.lower().startswith(TIMM)


def check_packaged(weights: str, arch: str) -> None:
    """Refuse weights called ``package:NAME`` that are not there, or are not for encoder ``arch``.

    Raises: UserError, see :func:`mit_semseg.models.packaged.packaged_file`.
    """
    if weights.startswith(PREFIX):
        packaged_file(weights, arch)


def _build_timm(arch: str, weights: str, imagenet: bool, output_stride: int) -> nn.Module:
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
    net = TimmEncoder(name, output_stride, pretrained=imagenet and not weights)
    if weights:
        load_timm_weights(net, weights, name)
    return net


def _look_up(arch: str, table: Mapping[str, _T], key: str, kind: str) -> tuple[str, _T]:
    name = arch.lower()
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        others = f" and {TIMM}NAME, for the models of timm" if kind == "encoder" else ""
        raise UserError(
            f"{key} is '{arch}', which is no {kind}. {hint}The {kind}s are {', '.join(table)}{others}."
        )
    return name, table[name]
