"""UPerNet: pyramid pooling on the last map, then a feature pyramid down to the finest.

Source: Xiao et al. 2018, Unified Perceptual Parsing for Scene Understanding, section 3.1.
"""

import torch
from torch import Tensor, nn

from ..layers import channel_dropout, conv_bn_relu, resize
from .auxiliary import Auxiliary
from .base import PUBLISHED_STYLE, Decoder, Style
from .ppm import POOL_SCALES, PPM_DIM


class UPerNet(Decoder):
    """Shape: features, finest first -> logits (N, num_class, H, W) of the size of the finest.

    Attributes:
        fpn_dim: channels of the feature pyramid. Given as ``dim``, it is the width of the pooled maps, too.
    """

    min_maps = 2
    output_map = 0
    fpn_dim = 512

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        *lateral, last = channels
        self.fpn_dim = fpn_dim = style.dim or type(self).fpn_dim
        pooled = style.dim or PPM_DIM

        def layer(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Sequential:
            return conv_bn_relu(in_channels, out_channels, kernel_size, norm=style.norm)

        self.ppm_pooling = nn.ModuleList(nn.AdaptiveAvgPool2d(scale) for scale in POOL_SCALES)
        self.ppm_conv = nn.ModuleList(layer(last, pooled, 1) for _ in POOL_SCALES)
        self.ppm_last_conv = layer(last + len(POOL_SCALES) * pooled, fpn_dim)
        self.fpn_in = nn.ModuleList(layer(width, fpn_dim, 1) for width in lateral)
        self.fpn_out = nn.ModuleList(nn.Sequential(layer(fpn_dim, fpn_dim)) for _ in lateral)
        self.dropout = channel_dropout(self.drop_rate)
        self.conv_last = nn.Sequential(
            layer(len(channels) * fpn_dim, fpn_dim), nn.Conv2d(fpn_dim, num_class, 1)
        )

    def logits(self, features: list[Tensor]) -> Tensor:
        top = self._pool(features[-1])
        pyramid = [top]
        for level in reversed(range(len(self.fpn_in))):
            x = features[level]
            top = self.fpn_in[level](x) + resize(top, x.shape[-2:])
            pyramid.insert(0, self.fpn_out[level](top))
        size = pyramid[0].shape[-2:]
        fuse, classify = self.conv_last
        fused = fuse(torch.cat([pyramid[0], *(resize(x, size) for x in pyramid[1:])], 1))
        return classify(self.dropout(fused))

    def _pool(self, last: Tensor) -> Tensor:
        """Pyramid pooling of the last map: (N, channels[-1], H, W) -> (N, fpn_dim, H, W)."""
        parts = [last]
        for pool, layers in zip(self.ppm_pooling, self.ppm_conv, strict=True):
            conv, norm, relu = layers.children()
            # The published model enlarges before the 1x1 convolution. Both are linear and commute, and the
            # convolution is far cheaper on the pooled map; BatchNorm's statistics must see the enlarged one.
            parts.append(relu(norm(resize(conv(pool(last)), last.shape[-2:]))))
        return self.ppm_last_conv(torch.cat(parts, 1))


class UPerNetDeepsup(Auxiliary, UPerNet):
    """UPerNet with an auxiliary classifier on the last map but one."""


class UPerNetLite(UPerNet):
    """UPerNet with a pyramid of half the width."""

    fpn_dim = 256


class UPerNetTiny(UPerNet):
    """UPerNet with a pyramid of an eighth of the width, for few classes and for CPUs."""

    fpn_dim = 64
