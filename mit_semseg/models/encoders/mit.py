"""Mix Transformer (MiT), the encoder of SegFormer: overlapping patches, attention to a reduced map.

Source: Xie et al. 2021, SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers,
section 3.1.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..activation_checkpointing import CheckpointedSequential
from ..layers import DropPath, drop_rates, in_graph, requested_maps, to_least


class MixTransformer(nn.Module):
    """MiT as an encoder. It has no position embedding, so images of any size work.

    Shape: (N, 3, H, W) -> four maps of ``widths`` channels at strides 4, 8, 16, 32, or ``[last map]`` without
        ``return_feature_maps``.

    Args:
        depths: blocks in each stage.
        widths: channels in each stage.
        heads: of the attention in each stage, which divide the widths.
        reductions: factor by which height and width of the map that is attended to are reduced.
        mlp_ratios: width of the hidden layers, as a multiple of ``widths``.
        qkv_bias: whether queries, keys and values have a bias.
        eps: of the normalizations in blocks and at the end of a stage.
        inner_eps: of the normalizations of patches and reduced maps.
        drop_path: probability that the last block is dropped in training; see `drop_rates`.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self,
        *,
        depths: tuple[int, ...] = (2, 2, 2, 2),
        widths: tuple[int, ...] = (32, 64, 160, 256),
        heads: tuple[int, ...] = (1, 2, 5, 8),
        reductions: tuple[int, ...] = (8, 4, 2, 1),
        mlp_ratios: tuple[float, ...] = (4.0, 4.0, 4.0, 4.0),
        qkv_bias: bool = True,
        eps: float = 1e-6,
        inner_eps: float = 1e-5,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if {len(each) for each in (depths, widths, heads, reductions, mlp_ratios)} != {len(self.strides)}:
            raise ValueError("depths, widths, heads, reductions and mlp_ratios need four values each")
        if min(*depths, *widths, *heads, *reductions, *mlp_ratios) <= 0:
            raise ValueError("depths, widths, heads, reductions and mlp_ratios must be above 0")
        self.channels = tuple(widths)
        self.stages = nn.ModuleList(
            _Stage(
                given,
                width,
                kernel_size=7 if i == 0 else 3,
                stride=4 if i == 0 else 2,
                heads=heads[i],
                reduction=reductions[i],
                hidden=int(width * mlp_ratios[i]),
                qkv_bias=qkv_bias,
                eps=eps,
                inner_eps=inner_eps,
                drop_rates=rates,
            )
            for i, (given, width, rates) in enumerate(
                zip((3, *widths[:-1]), widths, drop_rates(depths, drop_path), strict=True)
            )
        )

    def layer_order(self) -> list[list[nn.Module]]:
        """The parts in the order of the data, for learning rates that fall towards the input."""
        parts: list[list[nn.Module]] = []
        for child in self.stages:
            stage: Any = child
            blocks = list(stage.blocks)
            parts += [[stage.patches, stage.patch_norm, blocks[0]], *([block] for block in blocks[1:])]
            parts[-1].append(stage.norm)
        return parts

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return requested_maps(maps, return_feature_maps)


class _Stage(nn.Module):
    """Patches by a strided convolution, blocks, normalization. (N, C, H, W) -> (N, width, H / s, W / s)."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        kernel_size: int,
        stride: int,
        heads: int,
        reduction: int,
        hidden: int,
        qkv_bias: bool,
        eps: float,
        inner_eps: float,
        drop_rates: list[float],
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, kernel_size, stride, padding=kernel_size // 2)
        self.patch_norm = nn.LayerNorm(width, inner_eps)
        self.blocks = CheckpointedSequential(
            *(_Block(width, heads, reduction, hidden, qkv_bias, eps, inner_eps, rate) for rate in drop_rates)
        )
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        height, width = x.shape[-2:]
        x = self.patch_norm(_to_tokens(x))
        for block in self.blocks:
            x = self.blocks.run(block, (x, height, width))
        return _to_map(self.norm(x), height, width)


class _Block(nn.Module):
    """Attention and a hidden layer with a 3x3 convolution of each channel, each added to its input."""

    def __init__(
        self,
        width: int,
        heads: int,
        reduction: int,
        hidden: int,
        qkv_bias: bool,
        eps: float,
        inner_eps: float,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attention = _Attention(width, heads, reduction, qkv_bias, inner_eps)
        self.norm2 = nn.LayerNorm(width, eps)
        self.fc1 = nn.Linear(width, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.drop_path = DropPath(drop_rate)

    def forward(self, tokens_and_size: tuple[Tensor, int, int]) -> Tensor:
        """(N, H * W, width) and the size (H, W) of the map -> the same shape."""
        x, height, width = tokens_and_size
        x = x + self.drop_path(self.attention(self.norm1(x), height, width))
        y = _to_map(self.fc1(self.norm2(x)), height, width)
        return x + self.drop_path(self.fc2(F.gelu(_to_tokens(self.conv(y)))))


class _Attention(nn.Module):
    """Attention of all pixels to a map that a strided convolution has reduced."""

    def __init__(self, width: int, heads: int, reduction: int, qkv_bias: bool, inner_eps: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"the width {width} is not a multiple of the {heads} heads")
        self.heads = heads
        self.reduction = reduction
        self.q = nn.Linear(width, width, bias=qkv_bias)
        self.kv = nn.Linear(width, 2 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width, inner_eps)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """(N, H * W, C) -> the same shape."""
        count, pixels, channels = x.shape
        others = x
        if self.reduction > 1:
            reduced = self.reduce(_at_least(_to_map(x, height, width), self.reduction))
            others = self.norm(_to_tokens(reduced))
        depth = channels // self.heads
        # Not -1 for the pixels: an export would take longer to find out that they are all.
        q = self.q(x).view(count, pixels, self.heads, depth).transpose(1, 2)
        kv = self.kv(others).view(count, others.shape[1], 2, self.heads, depth)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind()
        result = F.scaled_dot_product_attention(q, k, v)
        return self.out(result.transpose(1, 2).reshape(x.shape))


@torch.fx.wrap  # a trace does not know the size
def _at_least(x: Tensor, side: Any) -> Tensor:
    """A map with zeros at the right and at the bottom, if a side is shorter than a filter."""
    height, width = x.shape[-2:]
    if not in_graph() and height >= side and width >= side:
        return x
    return F.pad(x, (0, to_least(width, side), 0, to_least(height, side)))


def _to_tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


def _to_map(x: Tensor, height: int, width: int) -> Tensor:
    """(N, H * W, C) -> (N, C, H, W)."""
    return x.transpose(1, 2).unflatten(2, (height, width))
