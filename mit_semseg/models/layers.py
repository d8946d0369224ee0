"""Building blocks that several encoders and decoders share."""

import math
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..lib.nn import SynchronizedBatchNorm2d as BatchNorm2d

__all__ = ["NORMS", "BatchNorm2d", "channel_dropout", "conv_bn_relu", "dilate", "resize"]

_GROUPS = 32  # of GroupNorm, as in its paper; fewer where the channels are no multiple of it
_LEAST_CHANNELS = 4  # a group: with one channel, a map of one pixel would have nothing to be normalized by


def _group_norm(channels: int) -> nn.GroupNorm:
    groups = math.gcd(channels, _GROUPS)
    while groups > 1 and channels < _LEAST_CHANNELS * groups:
        groups //= 2
    return nn.GroupNorm(groups, channels)


# Each builds the layer for so many channels.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": BatchNorm2d,
    "group": _group_norm,
}


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, norm: str = "batch"
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU. (N, in, H, W) -> (N, out, H/stride, W/stride).

    Args:
        norm: a key of ``NORMS``, for another normalization in BatchNorm's place.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        NORMS[norm](out_channels),
        nn.ReLU(inplace=True),
    )


def channel_dropout(probability: float) -> nn.Module:
    """Dropout of whole channels; a layer that draws no random numbers where the probability is 0."""
    return nn.Dropout2d(probability) if probability else nn.Identity()


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` (N, C, H, W) bilinearly resized to ``size`` (height, width), pixel areas aligned."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def dilate(stage: nn.Module, dilation: int) -> None:
    """Turn the stride of a stage into dilation, in place, so that it keeps its input's resolution.

    A 3x3 convolution that had the stride gets half the dilation, since what it reads has not been subsampled
    yet by as much as what the later ones read.

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
