"""The module path of the old package, and the decoders with its constructors.

The builder makes the decoders of decoders/. These here are for programs that make one themselves.
"""

from collections.abc import Sequence

from torch import nn

from . import hrnet, mobilenet, resnet, resnext
from .builder import ModelBuilder, channels_for
from .decoders import c1, ppm, upernet
from .encoders.mobilenet import MobileNetV2Dilated
from .encoders.resnet import Resnet, ResnetDilated
from .layers import BatchNorm2d, conv_bn_relu
from .segmentation import SegmentationModule, SegmentationModuleBase

__all__ = [
    "C1",
    "PPM",
    "BatchNorm2d",
    "C1DeepSup",
    "MobileNetV2Dilated",
    "ModelBuilder",
    "PPMDeepsup",
    "Resnet",
    "ResnetDilated",
    "SegmentationModule",
    "SegmentationModuleBase",
    "UPerNet",
    "conv3x3_bn_relu",
    "hrnet",
    "mobilenet",
    "resnet",
    "resnext",
]


def conv3x3_bn_relu(in_planes: int, out_planes: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution with BatchNorm and ReLU. (N, in, H, W) -> (N, out, H/stride, W/stride)."""
    return conv_bn_relu(in_planes, out_planes, stride=stride)


class C1(c1.C1):
    """`mit_semseg.models.decoders.c1.C1` for an encoder whose last map has ``fc_dim`` channels."""

    def __init__(self, num_class: int = 150, fc_dim: int = 2048, use_softmax: bool = False) -> None:
        super().__init__(channels_for(fc_dim), num_class, use_softmax)


class C1DeepSup(c1.C1DeepSup):
    """`mit_semseg.models.decoders.c1.C1DeepSup`; the last map but one has ``fc_dim / 2`` channels."""

    def __init__(self, num_class: int = 150, fc_dim: int = 2048, use_softmax: bool = False) -> None:
        super().__init__(channels_for(fc_dim), num_class, use_softmax)


class PPM(ppm.PPM):
    """`mit_semseg.models.decoders.ppm.PPM` for an encoder whose last map has ``fc_dim`` channels."""

    def __init__(
        self,
        num_class: int = 150,
        fc_dim: int = 4096,
        use_softmax: bool = False,
        pool_scales: Sequence[int] = ppm.POOL_SCALES,
    ) -> None:
        self.pool_scales = tuple(pool_scales)
        super().__init__(channels_for(fc_dim), num_class, use_softmax)


class PPMDeepsup(ppm.PPMDeepsup):
    """`mit_semseg.models.decoders.ppm.PPMDeepsup`; the last map but one has ``fc_dim / 2`` channels."""

    def __init__(
        self,
        num_class: int = 150,
        fc_dim: int = 4096,
        use_softmax: bool = False,
        pool_scales: Sequence[int] = ppm.POOL_SCALES,
    ) -> None:
        self.pool_scales = tuple(pool_scales)
        super().__init__(channels_for(fc_dim), num_class, use_softmax)


class UPerNet(upernet.UPerNet):
    """`mit_semseg.models.decoders.upernet.UPerNet`.

    Args:
        fc_dim: channels of the encoder's last map.
        fpn_inplanes: channels of all maps, finest first; the last number is not used.
    """

    def __init__(
        self,
        num_class: int = 150,
        fc_dim: int = 4096,
        use_softmax: bool = False,
        pool_scales: Sequence[int] = ppm.POOL_SCALES,
        fpn_inplanes: Sequence[int] = (256, 512, 1024, 2048),
        fpn_dim: int = 256,
    ) -> None:
        self.pool_scales, self.fpn_dim = tuple(pool_scales), fpn_dim
        super().__init__((*fpn_inplanes[:-1], fc_dim), num_class, use_softmax)
