"""SegFormer's head: project every map to one width, enlarge, mix all channels of a pixel, classify.

Source: Xie et al. 2021, SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers,
section 3.2.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers import channel_dropout, conv_bn_relu
from .base import PUBLISHED_STYLE, Auxiliary, Decoder, Style

SEGFORMER_DIM = 256  # of B0 and B1; the larger models have 768


class Segformer(Decoder):
    """Shape: features, finest first -> logits (N, num_class, H, W) of the size of the finest."""

    options: ClassVar[tuple[str, ...]] = ("align_corners", "maps", "norm_maps")
    output_map = 0
    published_dropout = 0.1

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
        width = style.dim or SEGFORMER_DIM

        def projection(given: int) -> nn.Module:
            return (
                conv_bn_relu(given, width, 1, norm=style.norm)
                if style.norm_maps
                else nn.Conv2d(given, width, 1)
            )

        self.projections = nn.ModuleList(projection(given) for given in channels)
        self.fuse = conv_bn_relu(len(channels) * width, width, 1, norm=style.norm)
        self.dropout = channel_dropout(self.drop_rate)
        self.conv_last = nn.Conv2d(width, num_class, 1)

    def logits(self, features: list[Tensor]) -> Tensor:
        indices = self.maps or range(len(self.projections))
        first, *others = [
            project(features[index]) for project, index in zip(self.projections, indices, strict=True)
        ]
        size = first.shape[-2:]
        return self.conv_last(
            self.dropout(self.fuse(torch.cat([first, *(self.resize(x, size) for x in others)], 1)))
        )


class SegformerDeepsup(Auxiliary, Segformer):
    """SegFormer's head with an auxiliary classifier on the last map but one."""
