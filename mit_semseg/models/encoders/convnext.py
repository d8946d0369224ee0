"""ConvNeXt: residual blocks of a 7x7 convolution of each channel and a hidden layer.

Source: Liu et al. 2022, A ConvNet for the 2020s. Each map is normalized, as detection and segmentation
programs do it.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..activation_checkpointing import CheckpointedSequential
from ..layers import DropPath, drop_rates, in_graph, requested_maps, to_least

_EPS = 1e-6  # of all normalizations
_COARSEST = 32  # stride of the last map


class ConvNeXt(nn.Module):
    """ConvNeXt as an encoder.

    Shape: (N, 3, H, W) -> four maps of ``widths`` channels at strides 4, 8, 16, 32, whose sides are rounded
        down, or ``[last map]`` without ``return_feature_maps``. Images with a side below 32 pixels are padded
        with zeros, ImageNet's mean colour, at the right and at the bottom.

    Args:
        depths: blocks in each stage.
        widths: channels in each stage.
        layer_scale: initial value of the factor of each channel; 0 for blocks without one.
        drop_path: probability that the last block is dropped in training; see `drop_rates`.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self,
        *,
        depths: tuple[int, ...] = (3, 3, 9, 3),
        widths: tuple[int, ...] = (96, 192, 384, 768),
        layer_scale: float = 1e-6,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if {len(depths), len(widths)} != {len(self.strides)} or min(*depths, *widths) < 1:
            raise ValueError("depths and widths need four values each, all above 0")
        self.channels = tuple(widths)
        rates = drop_rates(depths, drop_path)
        self.stem = nn.Conv2d(3, widths[0], 4, stride=4)
        self.stem_norm = _ChannelNorm(widths[0])
        halved = (
            nn.Sequential(_ChannelNorm(before), nn.Conv2d(before, after, 2, stride=2))
            for before, after in pairwise(widths)
        )
        self.downsample = nn.ModuleList([nn.Identity(), *halved])
        self.stages = nn.ModuleList(
            CheckpointedSequential(*(_Block(width, layer_scale, rate) for rate in of_stage))
            for width, of_stage in zip(widths, rates, strict=True)
        )
        self.norms = nn.ModuleList(_ChannelNorm(width) for width in widths)

    def layer_order(self) -> list[list[nn.Module]]:
        """The parts in the order of the data, for learning rates that fall towards the input."""
        parts: list[list[nn.Module]] = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            blocks = list(stage.children())
            start = [self.downsample[i]] if i else [self.stem, self.stem_norm]
            parts += [[*start, blocks[0]], *([block] for block in blocks[1:])]
            parts[-1].append(norm)
        return parts

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        size = x.shape[-2:]
        x = self.stem_norm(self.stem(_padded(x)))
        maps = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x = stage(self.downsample[i](x))
            maps.append(_cropped(norm(x), size, self.strides[i]))
        return requested_maps(maps, return_feature_maps)


class _ChannelNorm(nn.LayerNorm):
    """Normalization over the channels of each pixel. (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, _EPS)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """(N, C, H, W) -> the same shape."""

    def __init__(self, channels: int, layer_scale: float, drop_rate: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, _EPS)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), layer_scale)) if layer_scale else None
        self.drop_path = DropPath(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        y = self.fc2(F.gelu(self.fc1(y)))
        if self.scale is not None:
            y = self.scale * y
        return x + self.drop_path(y.permute(0, 3, 1, 2))


@torch.fx.wrap  # a trace does not know the size
def _padded(x: Any) -> Any:
    height, width = x.shape[-2:]
    if not in_graph() and height >= _COARSEST and width >= _COARSEST:
        return x
    return F.pad(x, (0, to_least(width, _COARSEST), 0, to_least(height, _COARSEST)))


@torch.fx.wrap
def _cropped(x: Any, size: Any, stride: Any) -> Any:
    """The part of a map that belongs to an image of ``size`` before it was padded, at least one pixel."""
    height, width = size
    if not in_graph() and height >= _COARSEST and width >= _COARSEST:
        return x
    rows, columns = (torch.sym_max(length // stride, 1) for length in (height, width))
    # Not a slice: torch.export would specialize it to cropped or to uncropped images.
    return F.pad(x, (0, columns - x.shape[-1], 0, rows - x.shape[-2]))
