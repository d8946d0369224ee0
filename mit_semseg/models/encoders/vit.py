"""Vision transformers with class and register tokens: DINOv2 and DINOv3.

Sources: Oquab et al. 2023, DINOv2; Darcet et al. 2023, Vision Transformers Need Registers (section 2.3);
Simeoni et al. 2025, DINOv3. The names of the weights are those of timm's ``VisionTransformer``.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..activation_checkpointing import CheckpointedSequential
from ..layers import DropPath, ceil_div, drop_rates, in_graph, requested_maps, to_multiple

_GATED_MULTIPLE = 8  # the width of a gated hidden layer is rounded up to it


class Tokens(NamedTuple):
    """An image as a sequence of tokens: class and registers first, then the patches row by row.

    Attributes:
        sequence: (N, prefix + height * width, C).
        height, width: of the map of patches.
        rotations: cosines and sines of the patches' rotary positions; None with learned positions.
    """

    sequence: Tensor
    height: Any
    width: Any
    rotations: tuple[Tensor, Tensor] | None


class VisionTransformer(nn.Module):
    """A plain vision transformer as an encoder of images of any size.

    Images are padded with zeros, ImageNet's mean colour, at the right and at the bottom to a multiple of
    ``patch``. Learned positions are interpolated from their grid to the map of patches by an antialiased
    bicubic filter, as timm does it. Rotary positions depend on the place in the map relative to its size.

    Shape: (N, 3, H, W) -> one map [(N, width, H / patch, W / patch)], rounded up, after the last
        normalization.

    Args:
        depth: number of blocks.
        width: channels.
        heads: of the attention, which divide the width.
        patch: side of a patch in pixels.
        hidden: width of the hidden layers; 0 for four times ``width``, or two thirds of it if gated.
        gated: whether the hidden layers are gated by SiLU (SwiGLU), as in the largest DINOv2.
        registers: number of register tokens.
        grid: side of the grid of learned positions, in patches; 0 for rotary positions.
        class_position: whether the learned positions begin with one for the class token.
        theta: base of the wavelengths of rotary positions.
        key_bias: whether keys have a bias.
        layer_scale: initial value of the factors on the output of attention and hidden layer.
        eps: of the normalizations.
        drop_path: probability that the last block is dropped in training; see `drop_rates`.
    """

    def __init__(
        self,
        *,
        depth: int = 12,
        width: int = 768,
        heads: int = 12,
        patch: int = 16,
        hidden: int = 0,
        gated: bool = False,
        registers: int = 4,
        grid: int = 32,
        class_position: bool = False,
        theta: float = 100.0,
        key_bias: bool = True,
        layer_scale: float = 1e-5,
        eps: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if min(depth, width, heads, patch) < 1 or min(hidden, registers, grid) < 0 or theta <= 0:
            raise ValueError("depth, width, heads, patch and theta must be above 0, and others not below 0")
        if width % heads:
            raise ValueError(f"the width {width} is not a multiple of the {heads} heads")
        if not grid and width // heads % 4:
            raise ValueError(f"rotary positions need a multiple of 4 channels per head, not {width // heads}")
        self.channels, self.strides = (width,), (patch,)
        self.theta, self.head_width = theta, width // heads
        self.grid, self.registers, self.own_position = grid, registers, class_position and grid > 0
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.reg_token = nn.Parameter(torch.empty(1, registers, width)) if registers else None
        positions = grid * grid + self.own_position
        self.pos_embed = nn.Parameter(torch.empty(1, positions, width)) if grid else None
        hidden = hidden or hidden_width(width, gated)
        self.blocks = CheckpointedSequential(
            *(
                _Block(width, heads, hidden, gated, key_bias, layer_scale, eps, rate)
                for rate in drop_rates((depth,), drop_path)[0]
            )
        )
        self.norm = nn.LayerNorm(width, eps)
        for parameter in (self.cls_token, self.reg_token, self.pos_embed):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)

    def tokens(self, x: Tensor) -> Tokens:
        """The tokens of images (N, 3, H, W) before the first block."""
        patch = self.strides[0]
        x = F.pad(x, (0, to_multiple(x.shape[3], patch), 0, to_multiple(x.shape[2], patch)))
        x = self.patch_embed["proj"](x)
        count, _, height, width = x.shape
        x = x.flatten(2).transpose(1, 2)
        first: Tensor = self.cls_token
        if self.pos_embed is not None:
            positions = self.pos_embed[:, 1:] if self.own_position else self.pos_embed
            first = first + self.pos_embed[:, :1] if self.own_position else first
            x = x + _resampled(positions, self.grid, height, width)
        own = (first,) if self.reg_token is None else (first, self.reg_token)
        x = torch.cat([*(token.expand(count, -1, -1) for token in own), x], 1)
        rotations = None if self.grid else _rotations(self.theta, self.head_width, height, width, x)
        return Tokens(x, height, width, rotations)

    def as_map(self, sequence: Tensor, height: Any, width: Any) -> Tensor:
        """The map (N, C, height, width) of the patches, which are the last tokens of a sequence."""
        start = sequence.shape[1] - height * width
        return sequence[:, start:].transpose(1, 2).unflatten(2, (height, width))

    def layer_order(self) -> list[list[nn.Module | nn.Parameter | None]]:
        """The parts in the order of the data, for learning rates that fall towards the input."""
        parts: list[list[nn.Module | nn.Parameter | None]] = [[block] for block in self.blocks]
        parts[0] += [self.patch_embed, self.cls_token, self.reg_token, self.pos_embed]
        parts[-1].append(self.norm)
        return parts

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        tokens = self.tokens(x)
        sequence = tokens.sequence
        for block in self.blocks:
            sequence = self.blocks.run(block, (sequence, tokens.rotations, None))
        return requested_maps(
            [self.as_map(self.norm(sequence), tokens.height, tokens.width)], return_feature_maps
        )


def hidden_width(width: int, gated: bool) -> int:
    """The default width of the hidden layers: four times the width, of which gating takes a third."""
    if not gated:
        return 4 * width
    return int(ceil_div(int(4 * width * 2 / 3), _GATED_MULTIPLE) * _GATED_MULTIPLE)


class _Block(nn.Module):
    """Attention and a hidden layer, each scaled and added to its input."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        gated: bool,
        key_bias: bool,
        layer_scale: float,
        eps: float,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = _Attention(width, heads, key_bias)
        self.ls1 = _LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = _Hidden(width, hidden, gated)
        self.ls2 = _LayerScale(width, layer_scale)
        self.drop_path = DropPath(drop_rate)

    def forward(self, given: tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor | None]) -> Tensor:
        """A sequence (N, T, C), its rotations and a mask -> (N, T, C).

        The mask (N, 1, T, T) is True where a token (row) attends to another (column); None for everywhere.
        """
        x, rotations, mask = given
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), rotations, mask)))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


class _LayerScale(nn.Module):
    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Hidden(nn.Module):
    def __init__(self, width: int, hidden: int, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.fc1 = nn.Linear(width, 2 * hidden if gated else hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        if not self.gated:
            return self.fc2(F.gelu(x))
        gate, values = x.chunk(2, -1)
        return self.fc2(F.silu(gate) * values)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, key_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=key_bias)
        self.q_bias = None if key_bias else nn.Parameter(torch.zeros(width))
        self.v_bias = None if key_bias else nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotations: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        count, length, width = x.shape
        bias: Tensor | None = self.qkv.bias
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.view(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind()
        if rotations is not None:
            q, k = _rotated(q, rotations), _rotated(k, rotations)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(x.transpose(1, 2).reshape(count, length, width))


def _rotated(x: Tensor, rotations: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys (N, heads, T, D), those of the patches at the end of T turned by their positions."""
    cosines, sines = rotations[0].to(x.dtype), rotations[1].to(x.dtype)
    start = x.shape[2] - cosines.shape[0]
    others, patches = x[:, :, :start], x[:, :, start:]
    first, second = patches.chunk(2, -1)
    return torch.cat([others, patches * cosines + torch.cat([-second, first], -1) * sines], 2)


@torch.fx.wrap  # a trace does not know the size
def _rotations(theta: float, head_width: int, height: Any, width: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (height * width, D) of the centres of patches, which lie from -1 to 1."""
    rows, columns = (
        2 * (torch.arange(length, device=like.device).float() + 0.5) / length - 1
        for length in (height, width)
    )
    places = torch.stack(
        [rows[:, None].expand(height, width), columns[None].expand(height, width)], -1
    ).reshape(-1, 2, 1)
    # In float32, as in the original, so that all precisions agree.
    exponents = torch.arange(0, 1, 4 / head_width, dtype=torch.float32, device=like.device)
    frequencies = (1 / theta**exponents).to(torch.promote_types(like.dtype, torch.float32))
    angles = (2 * math.pi * places * frequencies).flatten(1)
    angles = torch.cat([angles, angles], 1)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


@torch.fx.wrap  # a trace does not know the size
def _resampled(positions: Tensor, grid: int, height: Any, width: Any) -> Tensor:
    """Positions (1, grid * grid, C) interpolated to (1, height * width, C)."""
    if not in_graph() and (height, width) == (grid, grid):
        return positions
    if in_graph():  # exporters lack the filter, or translate it for the one size that they have seen
        down, right = (_bicubic(grid, length, positions) for length in (height, width))
        # One product, not one for each axis: torch.export would assume that there is more than one patch.
        weights = down[:, None, :, None] * right[None, :, None]
        return weights.flatten(2).flatten(0, 1) @ positions
    square = positions.float().reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    new = F.interpolate(square, size=(height, width), mode="bicubic", antialias=True)
    return new.flatten(2).transpose(1, 2).to(positions.dtype)


def _bicubic(source: int, target: Any, like: Tensor) -> Tensor:
    """The matrix (target, source) of torch's antialiased bicubic interpolation, for any target."""
    scale = source / torch.sym_float(target)
    wide = torch.sym_max(scale, 1.0)
    centres = (torch.arange(target, device=like.device)[:, None].float() + 0.5) * scale
    x = ((torch.arange(source, device=like.device)[None].float() + 0.5 - centres) / wide).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
