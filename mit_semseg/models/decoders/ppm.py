"""Pyramid pooling: context from the whole image at four grid sizes.

Source: Zhao et al. 2017, Pyramid Scene Parsing Network, section 3.2.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers import NORMS, AdaptiveAvgPool2d, channel_dropout, conv_bn_relu
from .base import PUBLISHED_STYLE, Auxiliary, Decoder, Style, joined_channels

POOL_SCALES = (1, 2, 3, 6)  # sides of the grids that a map is pooled to, in cells
PPM_DIM = 512  # channels of each pooled map, as published


class PPM(Decoder):
    """Pool the last map to a few sizes, upsample, fuse, classify.

    Shape: features[-1] (N, channels[-1], H, W) -> logits (N, num_class, H, W).

    Attributes:
        pool_scales: sides of the grids that the map is pooled to, in cells.
    """

    options: ClassVar[tuple[str, ...]] = ("align_corners", "maps", "pool_scales")
    pool_scales: tuple[int, ...] = POOL_SCALES
    published_dropout = 0.1

    @classmethod
    def min_batch(cls, style: Style = PUBLISHED_STYLE) -> int:
        return 2 if 1 in (style.pool_scales or cls.pool_scales) else 1

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        last, width = joined_channels(channels, style), style.dim or PPM_DIM
        self.pool_scales = style.pool_scales or self.pool_scales
        self.ppm = nn.ModuleList(
            nn.Sequential(
                AdaptiveAvgPool2d(scale), *conv_bn_relu(last, width, kernel_size=1, norm=style.norm)
            )
            for scale in self.pool_scales
        )
        self.conv_last = nn.Sequential(
            nn.Conv2d(last + len(self.pool_scales) * width, width, 3, padding=1, bias=False),
            NORMS[style.norm](width),
            nn.ReLU(inplace=True),
            channel_dropout(self.drop_rate),
            nn.Conv2d(width, num_class, 1),
        )

    def logits(self, features: list[Tensor]) -> Tensor:
        last = self.joined(features)
        size = last.shape[-2:]
        return self.conv_last(torch.cat([last, *(self.resize(pool(last), size) for pool in self.ppm)], 1))


class PPMDeepsup(Auxiliary, PPM):
    """PPM with an auxiliary classifier on the last map but one."""
