"""Deep supervision: a second classifier on the last map but one, of use in training only.

Source: Zhao et al. 2017, Pyramid Scene Parsing Network, section 3.3.
"""

from torch import Tensor, nn

from ..layers import channel_dropout, conv_bn_relu
from .base import PUBLISHED_STYLE, Decoder, Style


class Auxiliary(Decoder):
    """Named before another decoder among the bases of a class, it adds the auxiliary output to that one.

    Shape: features[-2] (N, channels[-2], H, W) -> auxiliary logits (N, num_class, H, W).
    """

    min_maps = 2
    deep_supervision = True

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        width = style.dim or channels[-1] // 4
        self.cbr_deepsup = conv_bn_relu(channels[-2], width, norm=style.norm)
        self.dropout_deepsup = channel_dropout(self.drop_rate)
        self.conv_last_deepsup = nn.Conv2d(width, num_class, 1)

    def aux_logits(self, features: list[Tensor]) -> Tensor:
        return self.conv_last_deepsup(self.dropout_deepsup(self.cbr_deepsup(features[-2])))
