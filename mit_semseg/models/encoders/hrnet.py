"""HRNetV2 (W48): parallel branches at strides 4 to 32 that exchange features, joined into one map.

Source: Wang et al. 2020, Deep High-Resolution Representation Learning for Visual Recognition, section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import BatchNorm2d, resize
from ..pretrained import with_imagenet
from ..stage import Stage
from .resnet import BasicBlock, Bottleneck

_WIDTH = 48  # channels of the branch at stride 4; each further branch doubles them
_BLOCKS = 4  # residual blocks of a branch, in each module


def _conv_bn(
    in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Exchange(nn.Module):
    """One module of a stage: residual blocks in each branch, then every branch receives the sum of all.

    Shape: a list of (N, C_i, H/2^i, W/2^i) -> a list of the same shapes.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(_BLOCKS))) for width in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [self._sum_for(target, maps) for target in range(len(maps))]

    def _sum_for(self, target: int, maps: list[Tensor]) -> Tensor:
        """What branch ``target`` receives: the maps of coarser branches are enlarged to its size."""
        total = maps[target]
        layers: nn.ModuleList = self.fuse_layers[target]  # type: ignore[assignment]
        for source, (layer, x) in enumerate(zip(layers, maps, strict=True)):
            if source < target:
                total = total + layer(x)
            elif source > target:
                total = total + resize(layer(x), maps[target].shape[-2:])
        return F.relu(total)


def _fuse(channels: list[int], source: int, target: int) -> nn.Module:
    """From branch to branch: nothing, a 1x1 convolution to a finer, strided 3x3 ones to a coarser."""
    if source == target:
        return nn.Identity()
    if source > target:
        return _conv_bn(channels[source], channels[target], kernel_size=1, relu=False)
    steps = target - source
    halve = [_conv_bn(channels[source], channels[source], stride=2) for _ in range(steps - 1)]
    return nn.Sequential(*halve, _conv_bn(channels[source], channels[target], stride=2, relu=False))


class HRNetV2(nn.Module):
    """HRNetV2-W48 as an encoder.

    Shape: (N, 3, H, W) -> [(N, 720, H/4, W/4)], whatever ``return_feature_maps``.
    """

    channels = (15 * _WIDTH,)
    strides = (4,)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = Stage(Bottleneck(64, 64), *(Bottleneck(256, 64) for _ in range(3)))
        widths = [_WIDTH * 2**i for i in range(4)]
        self.transition1 = nn.ModuleList(
            [_conv_bn(256, widths[0]), nn.Sequential(_conv_bn(256, widths[1], stride=2))]
        )
        self.stage2 = Stage(Exchange(widths[:2]))
        self.transition2 = _new_branch(widths[:3])
        self.stage3 = Stage(*(Exchange(widths[:3]) for _ in range(4)))
        self.transition3 = _new_branch(widths)
        self.stage4 = Stage(*(Exchange(widths) for _ in range(3)))

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        maps = self.stage2([layer(x) for layer in self.transition1])
        maps = self.stage3([*maps, self.transition2[-1](maps[-1])])
        maps = self.stage4([*maps, self.transition3[-1](maps[-1])])
        size = maps[0].shape[-2:]
        return [torch.cat([maps[0], *(resize(x, size) for x in maps[1:])], 1)]


def _new_branch(widths: list[int]) -> nn.ModuleList:
    """A transition: the branches go on as they are, and a new one at twice the stride grows from the last."""
    kept = [nn.Identity() for _ in widths[:-1]]
    return nn.ModuleList([*kept, nn.Sequential(_conv_bn(widths[-2], widths[-1], stride=2))])


def hrnetv2(pretrained: bool = False) -> HRNetV2:
    return with_imagenet(HRNetV2(), "hrnetv2", pretrained)
