"""The lightest decoder: one 3x3 convolution and the classifier."""

from torch import Tensor, nn

from ..layers import conv_bn_relu
from .base import Decoder


class C1(Decoder):
    """Shape: features[-1] (N, channels[-1], H, W) -> logits (N, num_class, H, W)."""

    def __init__(self, channels: tuple[int, ...], num_class: int, use_softmax: bool = False) -> None:
        super().__init__(channels, num_class, use_softmax)
        width = channels[-1] // 4
        self.cbr = conv_bn_relu(channels[-1], width)
        self.conv_last = nn.Conv2d(width, num_class, 1)

    def logits(self, features: list[Tensor]) -> Tensor:
        return self.conv_last(self.cbr(features[-1]))


class C1DeepSup(C1):
    """C1 with an auxiliary classifier on the last map but one."""

    min_maps = 2
    deep_supervision = True

    def __init__(self, channels: tuple[int, ...], num_class: int, use_softmax: bool = False) -> None:
        super().__init__(channels, num_class, use_softmax)
        width = channels[-1] // 4
        self.cbr_deepsup = conv_bn_relu(channels[-2], width)
        self.conv_last_deepsup = nn.Conv2d(width, num_class, 1)

    def aux_logits(self, features: list[Tensor]) -> Tensor:
        return self.conv_last_deepsup(self.cbr_deepsup(features[-2]))
