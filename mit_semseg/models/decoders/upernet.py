"""UPerNet: pyramid pooling on the last map, then a feature pyramid down to the finest.

Source: Xiao et al. 2018, Unified Perceptual Parsing for Scene Understanding, section 3.1.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers import AdaptiveAvgPool2d, channel_dropout, conv_bn_relu
from .base import PUBLISHED_STYLE, Auxiliary, Decoder, Style
from .ppm import POOL_SCALES, PPM_DIM


class UPerNet(Decoder):
    """Shape: features, finest first -> logits (N, num_class, H, W) of the size of the finest.

    Attributes:
        pool_scales: see `PPM`.
        fpn_dim: channels of the feature pyramid. If set by ``dim``, pooled maps have this width, too.
    """

    options: ClassVar[tuple[str, ...]] = ("align_corners", "maps", "pool_scales", "relu_first")
    min_maps = 2
    output_map = 0
    pool_scales: tuple[int, ...] = POOL_SCALES
    fpn_dim = 512

    @classmethod
    def min_batch(cls, style: Style = PUBLISHED_STYLE) -> int:
        # Without relu_first, BatchNorm comes after the pooled maps are enlarged.
        return 2 if style.relu_first and 1 in (style.pool_scales or cls.pool_scales) else 1

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        if style.maps:
            channels = tuple(channels[index] for index in style.maps)
        *lateral, last = channels
        self.pool_scales = style.pool_scales or self.pool_scales
        self.relu_first = style.relu_first
        self.fpn_dim = fpn_dim = style.dim or self.fpn_dim
        pooled = style.dim or PPM_DIM

        def layer(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Sequential:
            return conv_bn_relu(in_channels, out_channels, kernel_size, norm=style.norm)

        self.ppm_pooling = nn.ModuleList(AdaptiveAvgPool2d(scale) for scale in self.pool_scales)
        self.ppm_conv = nn.ModuleList(layer(last, pooled, 1) for _ in self.pool_scales)
        self.ppm_last_conv = layer(last + len(self.pool_scales) * pooled, fpn_dim)
        self.fpn_in = nn.ModuleList(layer(width, fpn_dim, 1) for width in lateral)
        self.fpn_out = nn.ModuleList(nn.Sequential(layer(fpn_dim, fpn_dim)) for _ in lateral)
        self.dropout = channel_dropout(self.drop_rate)
        self.conv_last = nn.Sequential(
            layer(len(channels) * fpn_dim, fpn_dim), nn.Conv2d(fpn_dim, num_class, 1)
        )

    def logits(self, features: list[Tensor]) -> Tensor:
        if self.maps:
            features = [features[index] for index in self.maps]
        pyramid = self._pyramid(features)
        size = pyramid[0].shape[-2:]
        fuse, classify = self.conv_last
        fused = fuse(torch.cat([pyramid[0], *(self.resize(x, size) for x in pyramid[1:])], 1))
        return classify(self.dropout(fused))

    def _pyramid(self, features: list[Tensor]) -> list[Tensor]:
        """One map for each map of the encoder, finest first, with the coarser ones added."""
        top = self._pool(features[-1])
        pyramid = [top]
        for level in reversed(range(len(self.fpn_in))):
            x = features[level]
            top = self.fpn_in[level](x) + self.resize(top, x.shape[-2:])
            pyramid.insert(0, self.fpn_out[level](top))
        return pyramid

    def _pool(self, last: Tensor) -> Tensor:
        """Pyramid pooling of the last map: (N, channels[-1], H, W) -> (N, fpn_dim, H, W)."""
        parts = [last]
        for pool, layers in zip(self.ppm_pooling, self.ppm_conv, strict=True):
            conv, norm, relu = layers.children()
            # The published model upsamples before the 1x1 convolution. Both are linear and commute, and the
            # convolution is far cheaper on the pooled map. BatchNorm's statistics need the upsampled map.
            if self.relu_first:
                parts.append(self.resize(relu(norm(conv(pool(last)))), last.shape[-2:]))
            else:
                parts.append(relu(norm(self.resize(conv(pool(last)), last.shape[-2:]))))
        return self.ppm_last_conv(torch.cat(parts, 1))


class UPerNetDeepsup(Auxiliary, UPerNet):
    """UPerNet with an auxiliary classifier on the last map but one."""


class UPerNetLite(UPerNet):
    """UPerNet with a pyramid of half the width."""

    fpn_dim = 256


class UPerNetTiny(UPerNet):
    """UPerNet with a pyramid of an eighth of the width, for few classes and for CPUs."""

    fpn_dim = 64
