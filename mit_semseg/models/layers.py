"""Building blocks that several encoders and decoders share."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..lib.nn import SynchronizedBatchNorm2d as BatchNorm2d

__all__ = ["BatchNorm2d", "conv_bn_relu", "dilate", "resize"]


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU. (N, in, H, W) -> (N, out, H/stride, W/stride)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


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
