"""Pyramid pooling: context from the whole image at four grid sizes.

Source: Zhao et al. 2017, Pyramid Scene Parsing Network, section 3.2.
"""

import torch
from torch import Tensor, nn

from ..layers import NORMS, channel_dropout, conv_bn_relu, resize
from .auxiliary import Auxiliary
from .base import PUBLISHED_STYLE, Decoder, Style

POOL_SCALES = (1, 2, 3, 6)  # side of each grid that a map is pooled to, in cells
PPM_DIM = 512  # channels of each pooled map, as published


class PPM(Decoder):
    """Pool the last map to a few sizes, upsample, fuse, classify.

    Shape: features[-1] (N, channels[-1], H, W) -> logits (N, num_class, H, W).
    """

    min_batch = 2  # the coarsest grid has one cell an image, and one value has no variance
    published_dropout = 0.1

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        last, width = channels[-1], style.dim or PPM_DIM
        self.ppm = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(scale), *conv_bn_relu(last, width, kernel_size=1, norm=style.norm)
            )
            for scale in POOL_SCALES
        )
        self.conv_last = nn.Sequential(
            nn.Conv2d(last + len(POOL_SCALES) * width, width, 3, padding=1, bias=False),
            NORMS[style.norm](width),
            nn.ReLU(inplace=True),
            channel_dropout(self.drop_rate),
            nn.Conv2d(width, num_class, 1),
        )

    def logits(self, features: list[Tensor]) -> Tensor:
        last = features[-1]
        size = last.shape[-2:]
        return self.conv_last(torch.cat([last, *(resize(pool(last), size) for pool in self.ppm)], 1))


class PPMDeepsup(Auxiliary, PPM):
    """PPM with an auxiliary classifier on the last map but one."""
