"""DeepLabV3 and V3+: parallel dilated convolutions, and for V3+ the finest map beside their result.

Source: Chen et al. 2017, Rethinking Atrous Convolution for Semantic Image Segmentation, section 3.3; Chen et
al. 2018, Encoder-Decoder with Atrous Separable Convolution, section 3.1.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers import channel_dropout, conv_bn_relu
from .base import PUBLISHED_STYLE, Auxiliary, Decoder, Style, joined_channels

ASPP_DIM = 512
LOW_DIM = 48


def _separable(in_channels: int, out_channels: int, norm: str, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution of each channel, then a 1x1 convolution, each with BatchNorm and ReLU."""
    return nn.Sequential(
        conv_bn_relu(in_channels, in_channels, norm=norm, dilation=dilation, groups=in_channels),
        conv_bn_relu(in_channels, out_channels, kernel_size=1, norm=norm),
    )


class DeepLabV3(Decoder):
    """Shape: the map of `Decoder.joined` (N, C, H, W) -> logits (N, num_class, H, W).

    Attributes:
        separable: whether the dilated convolutions are separable.
    """

    options: ClassVar[tuple[str, ...]] = ("align_corners", "maps", "dilations")
    published_dropout = 0.1
    separable = False

    @classmethod
    def min_batch(cls, style: Style = PUBLISHED_STYLE) -> int:
        return 2

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        given, width = joined_channels(channels, style), style.dim or ASPP_DIM
        if min(style.dilations, default=0) < 1:
            raise ValueError(f"dilations is {style.dilations}, but must be one or more numbers above 0")

        def branch(dilation: int) -> nn.Sequential:
            if dilation == 1:
                return conv_bn_relu(given, width, 1, norm=style.norm)
            if self.separable:
                return _separable(given, width, style.norm, dilation)
            return conv_bn_relu(given, width, norm=style.norm, dilation=dilation)

        self.pool = nn.AdaptiveAvgPool2d(1)
        self.pool_conv = conv_bn_relu(given, width, 1, norm=style.norm)
        self.aspp = nn.ModuleList(branch(dilation) for dilation in style.dilations)
        self.fuse = conv_bn_relu((len(style.dilations) + 1) * width, width, norm=style.norm)
        self.dropout = channel_dropout(self.drop_rate)
        self.conv_last = nn.Conv2d(width, num_class, 1)

    def logits(self, features: list[Tensor]) -> Tensor:
        return self.conv_last(self.dropout(self.context(features)))

    def context(self, features: list[Tensor]) -> Tensor:
        """The result of all branches, (N, dim, H, W)."""
        x = self.joined(features)
        pooled = self.resize(self.pool_conv(self.pool(x)), x.shape[-2:])
        return self.fuse(torch.cat([pooled, *(branch(x) for branch in self.aspp)], 1))


class DeepLabV3Plus(DeepLabV3):
    """Shape: the last map and the finest, (N, channels[0], H, W) -> logits (N, num_class, H, W)."""

    options: ClassVar[tuple[str, ...]] = ("low_dim",)
    min_maps = 2
    output_map = 0
    separable = True

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        width = style.dim or ASPP_DIM
        low = style.low_dim or min(LOW_DIM, width)
        self.low = conv_bn_relu(channels[0], low, 1, norm=style.norm)
        self.refine = nn.Sequential(
            _separable(width + low, width, style.norm), _separable(width, width, style.norm)
        )

    @classmethod
    def stride_map(cls, style: Style) -> int:
        return cls.output_map  # whichever map the branches read

    def logits(self, features: list[Tensor]) -> Tensor:
        x, low = self.context(features), self.low(features[0])
        x = self.refine(torch.cat([self.resize(x, low.shape[-2:]), low], 1))
        return self.conv_last(self.dropout(x))


class DeepLabV3Deepsup(Auxiliary, DeepLabV3):
    """DeepLabV3 with an auxiliary classifier on the last map but one."""


class DeepLabV3PlusDeepsup(Auxiliary, DeepLabV3Plus):
    """DeepLabV3+ with an auxiliary classifier on the last map but one."""
