"""Building blocks that several encoders and decoders share."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from ..lib.nn import SynchronizedBatchNorm2d as BatchNorm2d

__all__ = [
    "NORMS",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "DropPath",
    "ceil_div",
    "channel_dropout",
    "conv_bn_relu",
    "dilate",
    "drop_rates",
    "in_graph",
    "requested_maps",
    "resize",
    "resize_like",
    "to_least",
    "to_multiple",
]

_GROUPS = 32  # of GroupNorm, as in its paper; fewer if they do not divide the channels
_LEAST_CHANNELS = 4  # per group: with one channel, a map of one pixel would have a variance of 0


def _group_norm(channels: int) -> nn.GroupNorm:
    groups = math.gcd(channels, _GROUPS)
    while groups > 1 and channels < _LEAST_CHANNELS * groups:
        groups //= 2
    return nn.GroupNorm(groups, channels)


# Each builds the layer for a number of channels.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": BatchNorm2d,
    "group": _group_norm,
}


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    norm: str = "batch",
    *,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU. (N, in, H, W) -> (N, out, H/stride, W/stride).

    Args:
        norm: a key of ``NORMS``, for another normalization than BatchNorm.
    """
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        NORMS[norm](out_channels),
        nn.ReLU(inplace=True),
    )


def channel_dropout(probability: float) -> nn.Module:
    """Dropout of whole channels, or for probability 0 a layer that draws no random numbers."""
    return nn.Dropout2d(probability) if probability else nn.Identity()


def in_float32(scores: Tensor) -> Tensor:
    """Scores in float32 or float64, because the 16 bits of autocast are too few for probabilities."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def resize(x: Tensor, size: tuple[int, ...], align_corners: bool = False) -> Tensor:
    """``x`` (N, C, H, W) bilinearly resized to ``size`` (height, width).

    Args:
        align_corners: align the centres of the corner pixels. By default, the areas of pixels are aligned.
    """
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def resize_like(x: Tensor, other: Tensor, align_corners: bool = False) -> Tensor:
    """``x`` (N, C, h, w) resized to the height and width of ``other``, unless it has them."""
    # torch.fx traces with stand-ins of tensors, whose size is unknown. A resize to the same size is exact.
    # In other graphs, sizes that are equal now may differ for another image.
    if isinstance(x, Tensor) and not in_graph() and x.shape[-2:] == other.shape[-2:]:
        return x
    return resize(x, other.shape[-2:], align_corners)


def ceil_div(count: Any, size: int) -> Any:
    """``count / size`` rounded up, for whole numbers of 0 or more, also those that a trace stands in for.

    Not ``-(-count // size)``: exported graphs round the division of a negative number towards zero.
    """
    return (count + size - 1) // size


def to_multiple(length: Any, multiple: int) -> Any:
    """What has to be added to ``length`` to get the next multiple, also in a graph."""
    return ceil_div(length, multiple) * multiple - length  # not -length % multiple, see `ceil_div`


def to_least(length: Any, least: Any) -> Any:
    """What has to be added to ``length`` to get ``least``, or 0, also in a graph for every length."""
    return torch.sym_max(least - length, 0)  # max would choose for the length that an exporter has seen


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """torch's layer, whose exported or traced graph holds for maps of every size.

    Shape: (N, C, H, W) -> (N, C, output_size, output_size).
    """

    output_size: int

    def forward(self, x: Tensor) -> Tensor:
        if not in_graph():
            return super().forward(x)
        cells = self.output_size
        rows, columns = (_averages(cells, length, x) for length in x.shape[-2:])
        weights = rows[:, None, :, None] * columns[None, :, None]  # (cells, cells, H, W)
        # One product, not one for each axis: torch.export would assume that the map is larger than one pixel.
        return (x.flatten(2) @ weights.flatten(2).flatten(0, 1).T).unflatten(2, (cells, cells))


class AvgPool2d(nn.AvgPool2d):
    """The means of squares, of which those at the right and at the bottom may be cut off by the map's edge.

    Shape: (N, C, H, W) -> (N, C, H / side, W / side), rounded up.
    """

    kernel_size: int

    def __init__(self, side: int) -> None:
        super().__init__(side, ceil_mode=True, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        if not in_graph():
            return super().forward(x)
        # OpenVINO 2026.4 gives no pixel for a map that is smaller than a square.
        side = self.kernel_size
        added = (0, to_multiple(x.shape[3], side), 0, to_multiple(x.shape[2], side))
        share = F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), added), side)
        return F.avg_pool2d(F.pad(x, added), side) / share


def in_graph() -> bool:
    """Whether the running code becomes a graph that other sizes of images will pass through."""
    # torch 2.6 has no is_exporting.
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(torch.jit.is_tracing() or exporting())


def _averages(cells: int, length: Any, like: Tensor) -> Tensor:
    """The matrix (cells, length) that averages ``length`` values to ``cells``, as adaptive pooling does.

    Cell i is the mean of the values from floor(i * length / cells) to ceil((i + 1) * length / cells) - 1.
    Exporters translate torch's layer for the one size that they have seen. This matrix is computed inside the
    graph, from the length alone.
    """
    cell = torch.arange(cells, device=like.device)[:, None]
    place = torch.arange(length, device=like.device)[None]
    start = cell * length // cells
    stop = ceil_div((cell + 1) * length, cells)
    inside = (place >= start) & (place < stop)
    return inside.to(like.dtype) / (stop - start).to(like.dtype)


def requested_maps(maps: list[Tensor], return_feature_maps: bool) -> list[Tensor]:
    """What an encoder returns of its maps: all of them, or the last one in a list."""
    if isinstance(return_feature_maps, bool):
        return maps if return_feature_maps else maps[-1:]
    return _all_or_last(maps, return_feature_maps)


@torch.fx.wrap  # in a trace of a whole encoder, the argument is an input: the graph calls the function
def _all_or_last(maps: list[Tensor], all_of_them: Any) -> list[Tensor]:
    return maps if all_of_them else maps[-1:]


def dilate(stage: nn.Module, dilation: int) -> None:
    """Replace the stride of a stage by dilation, in place, so that it keeps the resolution of its input.

    A 3x3 convolution with the stride gets half the dilation, because the stride subsampled only the inputs of
    the later convolutions.

    Source: Yu and Koltun 2017, Dilated Residual Networks, section 2.
    """
    for conv in stage.modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        strided = conv.stride == (2, 2)
        if strided:
            conv.stride = (1, 1)
        if conv.kernel_size == (3, 3):
            rate = dilation // 2 if strided else dilation
            conv.dilation = conv.padding = (rate, rate)


class DropPath(nn.Module):
    """Stochastic depth: in training, a residual branch is 0 for a share of the images, scaled for others.

    Source: Huang et al. 2016, Deep Networks with Stochastic Depth.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.probability:
            return x
        kept = 1 - self.probability
        return x * x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(kept).div_(kept)


def drop_rates(depths: tuple[int, ...], last: float) -> list[list[float]]:
    """The probability of `DropPath` for each block of each stage, rising linearly from 0 to ``last``."""
    rates = [last * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
    starts = [sum(depths[:i]) for i in range(len(depths))]
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=True)]
