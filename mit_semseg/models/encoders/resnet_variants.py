"""ResNets of He et al. (v1b) and with a stem of three small convolutions (v1c, v1d), with any dilation.

Source: He et al. 2016, Deep Residual Learning for Image Recognition; He et al. 2019, Bag of Tricks for Image
Classification with Convolutional Neural Networks, section 4. The names are those of mmsegmentation.
"""

from itertools import accumulate
from operator import mul
from typing import Any

from torch import Tensor, nn

from ..activation_checkpointing import CheckpointedSequential
from ..layers import AvgPool2d, BatchNorm2d, conv_bn_relu, requested_maps
from .resnet import BasicBlock, Bottleneck

_BLOCKS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
DEPTHS = tuple(_BLOCKS)
VARIANTS = ("v1b", "v1c", "v1d")


class ResNetVariant(nn.Module):
    """A ResNet as an encoder.

    Shape: (N, 3, H, W) -> four maps, at strides 4, 8, 16, 32 by default, or ``[last map]`` without
        ``return_feature_maps``.

    Args:
        depth: a key of the table above.
        variant: "v1b", a stem of one 7x7 convolution; "v1c", of three 3x3 convolutions; "v1d", also averages
            before the projections that reduce the resolution.
        strides, dilations: of each stage.
        contract_dilation: give the first block of a dilated stage half the dilation.
        multi_grid: dilation of each block of the last stage, in place of ``dilations``; () for none.
        stem_channels: channels of the stem.
        base_channels: inner channels of the first stage's blocks; each further stage doubles them.
    """

    def __init__(
        self,
        depth: int,
        variant: str,
        *,
        strides: tuple[int, ...] = (1, 2, 2, 2),
        dilations: tuple[int, ...] = (1, 1, 1, 1),
        contract_dilation: bool = False,
        multi_grid: tuple[int, ...] = (),
        stem_channels: int = 64,
        base_channels: int = 64,
    ) -> None:
        super().__init__()
        block, blocks = _BLOCKS[depth]
        if len(strides) != len(blocks) or len(dilations) != len(blocks):
            raise ValueError(f"strides and dilations need {len(blocks)} values each")
        if not set(strides) <= {1, 2} or min(*dilations, *multi_grid, stem_channels // 2, base_channels) < 1:
            raise ValueError("strides must be 1 or 2, and dilations and channels above 0")
        if multi_grid and len(multi_grid) != blocks[-1]:
            raise ValueError(f"multi_grid needs {blocks[-1]} values, one for each block of the last stage")
        if variant == "v1b":
            self.stem = nn.Sequential(
                nn.Conv2d(3, stem_channels, 7, stride=2, padding=3, bias=False),
                BatchNorm2d(stem_channels),
                nn.ReLU(inplace=True),
            )
        else:
            half = stem_channels // 2
            self.stem = nn.Sequential(
                *conv_bn_relu(3, half, stride=2),
                *conv_bn_relu(half, half),
                *conv_bn_relu(half, stem_channels),
            )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = tuple(base_channels * 2**i * block.expansion for i in range(len(blocks)))
        self.strides = tuple(4 * stride for stride in accumulate(strides, mul))
        given = (stem_channels, *self.channels)
        for i, count in enumerate(blocks):
            of_blocks = [dilations[i]] * count
            if contract_dilation and dilations[i] > 1:
                of_blocks[0] //= 2
            if multi_grid and i == len(blocks) - 1:
                of_blocks = list(multi_grid)
            shortcut = None
            if variant == "v1d" and (strides[i] != 1 or given[i] != self.channels[i]):
                shortcut = _averaging_shortcut(given[i], self.channels[i], strides[i])
            inner = base_channels * 2**i
            stage = CheckpointedSequential(
                block(given[i], inner, strides[i], shortcut),
                *(block(self.channels[i], inner) for _ in range(count - 1)),
            )
            for each, dilation in zip(stage, of_blocks, strict=True):
                conv: Any = each.conv2 if isinstance(each, Bottleneck) else each.conv1
                conv.dilation = conv.padding = (dilation, dilation)
            self.add_module(f"layer{i + 1}", stage)

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        x = self.maxpool(self.stem(x))
        maps = []
        for i in range(len(self.channels)):
            x = getattr(self, f"layer{i + 1}")(x)
            maps.append(x)
        return requested_maps(maps, return_feature_maps)


def _averaging_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Sequential(
        AvgPool2d(stride),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        BatchNorm2d(out_channels),
    )
