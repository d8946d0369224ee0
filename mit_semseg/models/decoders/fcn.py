"""Fully convolutional head: a few convolutions, their input beside their output, and the classifier.

Source: Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation, in the form that
mmsegmentation publishes, without skip connections.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers import channel_dropout, conv_bn_relu
from .base import PUBLISHED_STYLE, Auxiliary, Decoder, Style, joined_channels

FCN_DIM = 512


class FCN(Decoder):
    """Shape: the map of `Decoder.joined` (N, C, H, W) -> logits (N, num_class, H, W)."""

    options: ClassVar[tuple[str, ...]] = (
        "align_corners",
        "maps",
        "convs",
        "kernel_size",
        "dilation",
        "concat_input",
    )
    published_dropout = 0.1

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        given, width, size = joined_channels(channels, style), style.dim or FCN_DIM, style.kernel_size
        if style.convs < 0 or size < 1 or size % 2 == 0 or style.dilation < 1:
            raise ValueError(
                f"convs is {style.convs}, kernel_size {size} and dilation {style.dilation}, but they must be "
                "0 or more, odd, and 1 or more"
            )
        widths = [given, *[width] * style.convs]
        self.convs = nn.Sequential(
            *(
                conv_bn_relu(before, width, size, norm=style.norm, dilation=style.dilation)
                for before in widths[:-1]
            )
        )
        last = widths[-1]
        self.fuse = conv_bn_relu(given + last, width, size, norm=style.norm) if style.concat_input else None
        self.dropout = channel_dropout(self.drop_rate)
        self.conv_last = nn.Conv2d(width if style.concat_input else last, num_class, 1)

    def logits(self, features: list[Tensor]) -> Tensor:
        x = self.joined(features)
        y = self.convs(x)
        if self.fuse is not None:
            y = self.fuse(torch.cat([x, y], 1))
        return self.conv_last(self.dropout(y))


class FCNDeepsup(Auxiliary, FCN):
    """FCN with an auxiliary classifier on the last map but one."""
