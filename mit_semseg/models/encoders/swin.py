"""Swin Transformer: attention within windows, which every other block shifts by half their side.

Source: Liu et al. 2021, Swin Transformer: Hierarchical Vision Transformer using Shifted Windows. Each map is
normalized, as detection and segmentation programs do it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..activation_checkpointing import CheckpointedSequential
from ..layers import DropPath, drop_rates, in_graph, requested_maps, to_multiple

_PATCH = 4
_INNER_EPS = 1e-5  # of the normalizations outside of blocks
_MASKED = -100.0  # added to the scores of pixels that only the shift has made neighbours


class Swin(nn.Module):
    """Swin as an encoder, for images of any size.

    Shape: (N, 3, H, W) -> maps of ``width``, 2 ``width``, 4 ``width``, 8 ``width`` channels at strides 4, 8,
        16, 32, or ``[last map]`` without ``return_feature_maps``.

    Args:
        depths: blocks in each stage.
        width: channels in the first stage; each further stage doubles them.
        heads: of the attention in each stage, which divide the channels.
        window: side of a window, in pixels of the map.
        mlp_ratio: width of the hidden layers, as a multiple of the channels.
        qkv_bias: whether queries, keys and values have a bias.
        eps: of the normalizations in blocks.
        drop_path: probability that the last block is dropped in training; see `drop_rates`.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self,
        *,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        width: int = 96,
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        eps: float = 1e-5,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if {len(depths), len(heads)} != {len(self.strides)} or min(*depths, *heads, width, window) < 1:
            raise ValueError(
                "depths and heads need four values each; these, width and window must be above 0"
            )
        self.channels = tuple(width * 2**i for i in range(4))
        self.patches = nn.Conv2d(3, width, _PATCH, stride=_PATCH)
        self.patch_norm = nn.LayerNorm(width, _INNER_EPS)
        self.stages = nn.ModuleList(
            CheckpointedSequential(
                *(
                    _Block(
                        channels,
                        heads[i],
                        window,
                        shift=window // 2 if k % 2 else 0,
                        hidden=int(mlp_ratio * channels),
                        qkv_bias=qkv_bias,
                        eps=eps,
                        drop_rate=rate,
                    )
                    for k, rate in enumerate(rates)
                )
            )
            for i, (channels, rates) in enumerate(
                zip(self.channels, drop_rates(depths, drop_path), strict=True)
            )
        )
        self.merges = nn.ModuleList(_Merge(channels) for channels in self.channels[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(channels, _INNER_EPS) for channels in self.channels)

    def layer_order(self) -> list[list[nn.Module]]:
        """The parts in the order of the data, for learning rates that fall towards the input."""
        parts: list[list[nn.Module]] = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            blocks = list(stage.children())
            start = [self.merges[i - 1]] if i else [self.patches, self.patch_norm]
            parts += [[*start, blocks[0]], *([block] for block in blocks[1:])]
            parts[-1].append(norm)
        return parts

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        x = F.pad(x, (0, to_multiple(x.shape[3], _PATCH), 0, to_multiple(x.shape[2], _PATCH)))
        x = self.patch_norm(self.patches(x).permute(0, 2, 3, 1))
        maps = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if i > 0:
                x = self.merges[i - 1](x)
            x = stage(x)
            maps.append(norm(x).permute(0, 3, 1, 2))
        return requested_maps(maps, return_feature_maps)


class _Merge(nn.Module):
    """The pixels of each square of two by two in one. (N, H, W, C) -> (N, H / 2, W / 2, 2 C), rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels, _INNER_EPS)
        self.reduce = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, to_multiple(x.shape[2], 2), 0, to_multiple(x.shape[1], 2)))
        count, height, width, channels = x.shape
        # Not four slices, of which an export takes several times as long.
        squares = x.view(count, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.reduce(self.norm(squares.flatten(3)))


class _Block(nn.Module):
    """Attention within windows and a hidden layer, each added to its input. (N, H, W, C) -> (N, H, W, C)."""

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        *,
        shift: int,
        hidden: int,
        qkv_bias: bool,
        eps: float,
        drop_rate: float,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"the width {channels} is not a multiple of the {heads} heads")
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels, eps)
        self.attention = _Attention(channels, heads, window, qkv_bias)
        self.norm2 = nn.LayerNorm(channels, eps)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.drop_path = DropPath(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.fc2(F.gelu(self.fc1(self.norm2(x)))))

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        side, shift = self.window, self.shift
        x = F.pad(x, (0, 0, 0, to_multiple(width, side), 0, to_multiple(height, side)))
        mask = None
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
            mask = _mask(x, side, shift)
        count, padded_height, padded_width, channels = x.shape
        rows, columns = padded_height // side, padded_width // side
        windows = x.view(count, rows, side, columns, side, channels).transpose(2, 3)
        windows = self.attention(windows.reshape(count, rows * columns, side * side, channels), mask)
        x = windows.view(count, rows, columns, side, side, channels).transpose(2, 3)
        x = x.reshape(count, padded_height, padded_width, channels)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        if in_graph():  # torch.export would specialize a slice to cropped or to uncropped maps
            return F.pad(x, (0, 0, 0, width - padded_width, 0, height - padded_height))
        return x[:, :height, :width]


class _Attention(nn.Module):
    """Attention with a learned bias for each offset. (N, windows, side * side, C) -> the same shape."""

    def __init__(self, channels: int, heads: int, window: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def offsets(self) -> Tensor:
        """The row of ``bias`` for each pair of pixels of a window, (side * side, side * side) int64."""
        at = torch.arange(self.window**2, device=self.bias.device)
        rows, columns = (
            each[:, None] - each + self.window - 1 for each in (at // self.window, at % self.window)
        )
        return rows * (2 * self.window - 1) + columns

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        count, windows, area, channels = x.shape
        qkv = self.qkv(x).view(count, windows, area, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(1, 2).unbind()
        bias = self.bias[self.offsets()].permute(2, 0, 1)[None]  # (1, heads, area, area)
        if mask is not None:
            bias = bias + mask[:, None]  # (windows, heads, area, area)
            bias = bias.repeat(count, 1, 1, 1)
        result = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(result.transpose(1, 2).reshape(x.shape))


@torch.fx.wrap  # a trace does not know the size
def _mask(x: Tensor, side: Any, shift: Any) -> Tensor:
    """What is added to the scores in each window of a shifted map, (windows, side * side, side * side).

    Args:
        x: the map (N, H, W, C), whose sides are multiples of ``side``.
    """
    height, width = x.shape[1:3]
    regions = []
    for length in (height, width):
        at = torch.arange(length, device=x.device)
        regions.append((at >= length - side).long() + (at >= length - shift).long())
    region = regions[0][:, None] * 3 + regions[1]
    rows, columns = height // side, width // side
    region = region.view(rows, side, columns, side).transpose(1, 2).reshape(rows * columns, side * side)
    apart = region[:, None] != region[:, :, None]
    return torch.zeros(apart.shape, dtype=x.dtype, device=x.device).masked_fill_(apart, _MASKED)
