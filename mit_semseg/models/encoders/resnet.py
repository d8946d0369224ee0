"""ResNet and ResNeXt with a stem of three 3x3 convolutions, as classifiers and encoders, plain and dilated.

Source: He et al. 2016, Deep Residual Learning for Image Recognition; Xie et al. 2017, Aggregated Residual
Transformations for Deep Neural Networks; the stem as in Zhao et al. 2017, Pyramid Scene Parsing Network.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..activation_checkpointing import CheckpointedSequential
from ..layers import BatchNorm2d, dilate, requested_maps
from ..weights.pretrained import with_imagenet


class _Block(nn.Module):
    """A residual block: ``relu(residual(x) + shortcut(x))``.

    Args:
        downsample: the shortcut; by default x itself, or a projection if shapes differ.
    """

    expansion: ClassVar[int]  # output channels for each of ``channels``

    def __init__(
        self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        if downsample is None and (stride != 1 or in_channels != out_channels):
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels)
            )

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.residual(x) + shortcut)


class BasicBlock(_Block):
    """Two 3x3 convolutions. (N, in, H, W) -> (N, channels, H/stride, W/stride)."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__(in_channels, channels, stride, downsample)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class Bottleneck(_Block):
    """1x1, 3x3, 1x1 convolutions. (N, in, H, W) -> (N, channels * expansion, H/stride, W/stride)."""

    expansion = 4
    groups = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__(in_channels, channels, stride, downsample)
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=self.groups, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = BatchNorm2d(channels * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class GroupBottleneck(Bottleneck):
    """ResNeXt's block: the 3x3 convolution in 32 groups, twice as wide inside."""

    expansion = 2
    groups = 32


class _Trunk(nn.Module):
    """The common part of classifier and encoders: the stem, and the four stages after it."""

    conv1: nn.Module
    bn1: nn.Module
    relu1: nn.Module
    conv2: nn.Module
    bn2: nn.Module
    relu2: nn.Module
    conv3: nn.Module
    bn3: nn.Module
    relu3: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def stem(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 128, H/4, W/4)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.relu3(self.bn3(self.conv3(x)))
        return self.maxpool(x)

    def stages(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        return self.layer1, self.layer2, self.layer3, self.layer4


class ResNet(_Trunk):
    """The ImageNet classifier, whose weights the encoders start from.

    Shape: (N, 3, H, W) -> class scores (N, num_classes).

    Args:
        block: the type of residual block.
        depths: blocks in each of the four stages.
        width: ``channels`` of the first stage's blocks; each further stage doubles it.
    """

    def __init__(
        self, block: type[_Block], depths: Sequence[int], num_classes: int = 1000, *, width: int = 64
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(64)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1, bias=False)
        self.bn3 = BatchNorm2d(128)
        self.relu3 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        self.channels = tuple(width * 2**i * block.expansion for i in range(4))
        in_channels = (128, *self.channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, in_channels[i], width * 2**i, depths[i], stride=1 if i == 0 else 2)
            for i in range(4)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages():
            x = stage(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class ResNeXt(ResNet):
    """A `ResNet` whose stages are twice as wide, for blocks in 32 groups.

    Args:
        groups: those of ``block``, of which there are always 32.
    """

    def __init__(
        self, block: type[_Block], depths: Sequence[int], groups: int = 32, num_classes: int = 1000
    ) -> None:
        if groups != GroupBottleneck.groups:
            raise ValueError(f"groups is {groups}, but the blocks have {GroupBottleneck.groups}")
        super().__init__(block, depths, num_classes, width=128)


class Resnet(_Trunk):
    """The four stages of a ResNet as an encoder.

    Shape: (N, 3, H, W) -> four maps at strides 4, 8, 16, 32, or ``[last map]`` without
        ``return_feature_maps``.
    """

    strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(self, orig_resnet: ResNet) -> None:
        super().__init__()
        for name, child in orig_resnet.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, child)
        self.channels: tuple[int, ...] = orig_resnet.channels

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages():
            x = stage(x)
            maps.append(x)
        return requested_maps(maps, return_feature_maps)


class ResnetDilated(Resnet):
    """A ResNet whose last stages keep the resolution, with dilated convolutions in place of strides.

    Args:
        dilate_scale: stride of the last map, 8 or 16.

    Source: Yu and Koltun 2017, Dilated Residual Networks.
    """

    def __init__(self, orig_resnet: ResNet, dilate_scale: int = 8) -> None:
        super().__init__(orig_resnet)
        if dilate_scale == 8:
            dilate(self.layer3, 2)
            dilate(self.layer4, 4)
            self.strides = (4, 8, 8, 8)
        elif dilate_scale == 16:
            dilate(self.layer4, 2)
            self.strides = (4, 8, 16, 16)
        else:
            raise ValueError(f"dilate_scale is {dilate_scale}, but takes 8 or 16")


def _stage(
    block: type[_Block], in_channels: int, channels: int, depth: int, stride: int
) -> CheckpointedSequential:
    first = block(in_channels, channels, stride)
    return CheckpointedSequential(
        first, *(block(channels * block.expansion, channels, 1) for _ in range(depth - 1))
    )


def resnet18(pretrained: bool = False, num_classes: int = 1000) -> ResNet:
    return with_imagenet(ResNet(BasicBlock, (2, 2, 2, 2), num_classes), "resnet18", pretrained)


def resnet34(pretrained: bool = False, num_classes: int = 1000) -> ResNet:
    return with_imagenet(ResNet(BasicBlock, (3, 4, 6, 3), num_classes), "resnet34", pretrained)


def resnet50(pretrained: bool = False, num_classes: int = 1000) -> ResNet:
    return with_imagenet(ResNet(Bottleneck, (3, 4, 6, 3), num_classes), "resnet50", pretrained)


def resnet101(pretrained: bool = False, num_classes: int = 1000) -> ResNet:
    return with_imagenet(ResNet(Bottleneck, (3, 4, 23, 3), num_classes), "resnet101", pretrained)


def resnext101(pretrained: bool = False, num_classes: int = 1000) -> ResNeXt:
    return with_imagenet(
        ResNeXt(GroupBottleneck, (3, 4, 23, 3), num_classes=num_classes), "resnext101", pretrained
    )
