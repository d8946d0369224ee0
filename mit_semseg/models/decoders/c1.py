"""The lightest decoder: one 3x3 convolution and the classifier."""

from torch import Tensor, nn

from ..layers import channel_dropout, conv_bn_relu
from .base import PUBLISHED_STYLE, Auxiliary, Decoder, Style


class C1(Decoder):
    """Shape: features[-1] (N, channels[-1], H, W) -> logits (N, num_class, H, W)."""

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        width = style.dim or channels[-1] // 4
        self.cbr = conv_bn_relu(channels[-1], width, norm=style.norm)
        self.dropout = channel_dropout(self.drop_rate)
        self.conv_last = nn.Conv2d(width, num_class, 1)

    def logits(self, features: list[Tensor]) -> Tensor:
        return self.conv_last(self.dropout(self.cbr(features[-1])))


class C1DeepSup(Auxiliary, C1):
    """C1 with an auxiliary classifier on the last map but one."""
