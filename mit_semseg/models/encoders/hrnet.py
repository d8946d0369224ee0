"""HRNet: parallel branches at strides 4 to 32 that exchange features. HRNetV2 joins them into one map.

Source: Wang et al. 2020, Deep High-Resolution Representation Learning for Visual Recognition, section 3.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..activation_checkpointing import CheckpointedSequential
from ..layers import BatchNorm2d, conv_bn_relu, requested_maps, resize, resize_like
from ..weights.pretrained import with_imagenet
from .resnet import BasicBlock, Bottleneck

_WIDTH = 48  # channels of the branch at stride 4; each further branch doubles them
_BLOCKS = 4  # residual blocks of a branch, in each module


class HighResolutionModule(nn.Module):
    """One module of a stage: residual blocks in each branch, then each branch takes the sum of all.

    Programs that export the model replace ``forward``, and read the attributes in their own.

    Shape: a list of (N, C_i, H/2^i, W/2^i) -> a list of the same shapes.
    """

    def __init__(self, channels: list[int], blocks: int = _BLOCKS) -> None:
        super().__init__()
        self.num_branches = len(channels)
        self.relu = nn.ReLU(inplace=True)
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks))) for width in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(channels, source, target) for source in range(len(channels)))  # type: ignore[misc]
            for target in range(len(channels))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [self._sum_for(target, maps) for target in range(len(maps))]

    def _sum_for(self, target: int, maps: list[Tensor]) -> Tensor:
        """The new map of branch ``target``: the sum of all branches, coarser ones upsampled to its size."""
        total = maps[target]
        layers: nn.ModuleList = self.fuse_layers[target]  # type: ignore[assignment]
        for source, (layer, x) in enumerate(zip(layers, maps, strict=True)):
            if source < target:
                total = total + layer(x)
            elif source > target:
                total = total + self._enlarged(layer(x), source - target, maps[target])
        return self.relu(total)

    def _enlarged(self, x: Tensor, steps: int, finer: Tensor) -> Tensor:
        """A map of a branch that is ``steps`` coarser, in the size of ``finer``."""
        return resize(x, finer.shape[-2:])


class _TwoStepModule(HighResolutionModule):
    """A module that enlarges maps by a power of 2 first. Results differ where sizes are not multiples."""

    def _enlarged(self, x: Tensor, steps: int, finer: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return resize_like(resize(x, (height * 2**steps, width * 2**steps)), finer)


def _fuse(channels: list[int], source: int, target: int) -> nn.Module | None:
    """None within a branch, a 1x1 convolution to a finer one, strided 3x3 ones to a coarser one."""
    if source == target:
        return None
    if source > target:
        return conv_bn_relu(channels[source], channels[target], kernel_size=1)[:2]  # without ReLU
    steps = target - source
    halve = [conv_bn_relu(channels[source], channels[source], stride=2) for _ in range(steps - 1)]
    return nn.Sequential(*halve, conv_bn_relu(channels[source], channels[target], stride=2)[:2])


class HRNetV2(nn.Module):
    """HRNetV2-W48 as an encoder.

    Shape: (N, 3, H, W) -> [(N, 720, H/4, W/4)], whatever ``return_feature_maps``.

    Args:
        n_class: ignored, because the encoder has no classifier; kept for existing callers.
    """

    channels = (15 * _WIDTH,)
    strides = (4,)

    def __init__(self, n_class: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = CheckpointedSequential(Bottleneck(64, 64), *(Bottleneck(256, 64) for _ in range(3)))
        widths = [_WIDTH * 2**i for i in range(4)]
        self.stage2_cfg, self.stage3_cfg, self.stage4_cfg = ({"NUM_BRANCHES": n} for n in (2, 3, 4))
        self.transition1 = nn.ModuleList(
            [conv_bn_relu(256, widths[0]), nn.Sequential(conv_bn_relu(256, widths[1], stride=2))]
        )
        self.stage2 = CheckpointedSequential(HighResolutionModule(widths[:2]))
        self.transition2 = _new_branch(widths[:3])
        self.stage3 = CheckpointedSequential(*(HighResolutionModule(widths[:3]) for _ in range(4)))
        self.transition3 = _new_branch(widths)
        self.stage4 = CheckpointedSequential(*(HighResolutionModule(widths) for _ in range(3)))

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        maps = self.stage2([layer(x) for layer in self.transition1])
        maps = self.stage3([*maps, self.transition2[-1](maps[-1])])
        maps = self.stage4([*maps, self.transition3[-1](maps[-1])])
        size = maps[0].shape[-2:]
        return [torch.cat([maps[0], *(resize(x, size) for x in maps[1:])], 1)]


class HRNet(nn.Module):
    """HRNet as an encoder with a map for each branch, in the form of mmsegmentation.

    Shape: (N, 3, H, W) -> maps of ``widths`` channels at strides 4, 8, 16, 32, or ``[last map]`` without
        ``return_feature_maps``.

    Args:
        widths: channels of each branch.
        modules: exchanges of features in the second, third and fourth stage.
        blocks: residual blocks of a branch in each stage. The first stage has a single branch.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = (18, 36, 72, 144),
        modules: tuple[int, ...] = (1, 4, 3),
        blocks: tuple[int, ...] = (4, 4, 4, 4),
    ) -> None:
        super().__init__()
        if (len(widths), len(modules), len(blocks)) != (4, 3, 4) or min(*widths, *modules, *blocks) < 1:
            raise ValueError("widths and blocks need four values and modules three, all above 0")
        self.channels = tuple(widths)
        branches = list(widths)
        self.stem = nn.Sequential(*conv_bn_relu(3, 64, stride=2), *conv_bn_relu(64, 64, stride=2))
        self.layer1 = CheckpointedSequential(
            Bottleneck(64, 64), *(Bottleneck(256, 64) for _ in range(blocks[0] - 1))
        )
        self.transition1 = nn.ModuleList(
            [conv_bn_relu(256, widths[0]), nn.Sequential(conv_bn_relu(256, widths[1], stride=2))]
        )
        self.transition2 = _new_branch(branches[:3])
        self.transition3 = _new_branch(branches)
        self.stage2, self.stage3, self.stage4 = (
            CheckpointedSequential(
                *(_TwoStepModule(branches[: i + 2], blocks[i + 1]) for _ in range(modules[i]))
            )
            for i in range(3)
        )

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        x = self.layer1(self.stem(x))
        maps = self.stage2([layer(x) for layer in self.transition1])
        maps = self.stage3([*maps, self.transition2[-1](maps[-1])])
        maps = self.stage4([*maps, self.transition3[-1](maps[-1])])
        return requested_maps(maps, return_feature_maps)


def _new_branch(widths: list[int]) -> nn.ModuleList:
    """A transition: None for each branch that stays, and layers from the last one to a new one."""
    kept: list[Any] = [None] * (len(widths) - 1)
    return nn.ModuleList([*kept, nn.Sequential(conv_bn_relu(widths[-2], widths[-1], stride=2))])


def hrnetv2(pretrained: bool = False) -> HRNetV2:
    return with_imagenet(HRNetV2(), "hrnetv2", pretrained)
