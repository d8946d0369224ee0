"""Pyramid pooling: context from the whole image at four grid sizes.

Source: Zhao et al. 2017, Pyramid Scene Parsing Network, section 3.2; the auxiliary loss, section 3.3.
"""

import torch
from torch import Tensor, nn

from ..layers import BatchNorm2d, conv_bn_relu, resize
from .base import Decoder

POOL_SCALES = (1, 2, 3, 6)  # side of each grid that a map is pooled to, in cells
PPM_DIM = 512  # channels of each pooled map


class PPM(Decoder):
    """Pool the last map to a few sizes, upsample, fuse, classify.

    Shape: features[-1] (N, channels[-1], H, W) -> logits (N, num_class, H, W).
    """

    min_batch = 2  # the coarsest grid has one cell an image, and one value has no variance

    def __init__(self, channels: tuple[int, ...], num_class: int, use_softmax: bool = False) -> None:
        super().__init__(channels, num_class, use_softmax)
        last = channels[-1]
        self.ppm = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), *conv_bn_relu(last, PPM_DIM, kernel_size=1))
            for scale in POOL_SCALES
        )
        self.conv_last = nn.Sequential(
            nn.Conv2d(last + len(POOL_SCALES) * PPM_DIM, PPM_DIM, 3, padding=1, bias=False),
            BatchNorm2d(PPM_DIM),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(PPM_DIM, num_class, 1),
        )

    def logits(self, features: list[Tensor]) -> Tensor:
        last = features[-1]
        size = last.shape[-2:]
        return self.conv_last(torch.cat([last, *(resize(pool(last), size) for pool in self.ppm)], 1))


class PPMDeepsup(PPM):
    """PPM with an auxiliary classifier on the last map but one."""

    min_maps = 2
    deep_supervision = True

    def __init__(self, channels: tuple[int, ...], num_class: int, use_softmax: bool = False) -> None:
        super().__init__(channels, num_class, use_softmax)
        width = channels[-1] // 4
        self.cbr_deepsup = conv_bn_relu(channels[-2], width)
        self.dropout_deepsup = nn.Dropout2d(0.1)
        self.conv_last_deepsup = nn.Conv2d(width, num_class, 1)

    def aux_logits(self, features: list[Tensor]) -> Tensor:
        return self.conv_last_deepsup(self.dropout_deepsup(self.cbr_deepsup(features[-2])))
