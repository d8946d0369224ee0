"""timm models as encoders, adapted to images of any size, the project's normalization and its BatchNorm.

Source: Wightman 2019, PyTorch Image Models.
"""

from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn

from ...errors import UserError
from ...lib.nn import SynchronizedBatchNorm2d, convert_model
from ..input_channels import RGB
from ..layers import ceil_div, in_graph, requested_maps, resize, to_least, to_multiple
from .timm_plan import Plan, nhwc, plan

_OWN = "Set MODEL.pretrained False for random weights, or MODEL.weights_encoder to a checkpoint."


class TimmEncoder(nn.Module):
    """A timm model that returns its feature maps.

    Images must be normalized by ImageNet's mean and deviation, as for all encoders. They are normalized again
    if the model was trained with other values. If the model takes only multiples of some size, images are
    padded at the right and at the bottom with ImageNet's mean colour, and the maps are cropped to the size of
    the image. Images of other than three channels are normalized by their own statistics, and stay so.

    Shape: (N, in_channels, H, W) -> maps (N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])),
        finest first, from stride 4 on. A model of a single scale returns its last map only, as does every
        model without ``return_feature_maps``.

    Args:
        name: name of the model in timm, with or without the tag of its weights.
        output_stride: stride of the last map; 0 for the model's own.
        pretrained: True to download timm's weights, once; False for random weights.
        in_channels: channels of the images. timm adapts its weights for RGB to others.

    Attributes:
        mean, std: normalization that the model was trained with, for RGB values from 0 to 1.
        multiple: each side of the image is padded to a multiple of this number of pixels.

    Raises: UserError if the model cannot be used as an encoder, or its weights cannot be downloaded.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, name: str, output_stride: int = 0, pretrained: bool = False, in_channels: int = RGB
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        found = plan(name, output_stride)
        self.channels, self.strides = found.channels, found.strides
        self.multiple, self.exact = found.multiple, found.exact
        net: Any = (
            _pretrained(name, found, in_channels) if pretrained else found.build(name, False, in_channels)
        )
        self.channels_last = nhwc(net)
        self.mean: tuple[float, ...] = tuple(net.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = tuple(net.pretrained_cfg["std"])
        mean, std, imagenet_mean, imagenet_std = (
            torch.tensor(values, dtype=torch.float64).view(3, 1, 1)
            for values in (self.mean, self.std, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )
        imagenet = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        self.renormalizes = in_channels == RGB and (self.mean, self.std) != imagenet
        self.register_buffer("scale", (imagenet_std / std).float(), persistent=False)
        self.register_buffer("shift", ((imagenet_mean - mean) / std).float(), persistent=False)
        self.net = _synchronized(net)

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        height, width = x.shape[-2:]
        if self.multiple > 1:
            x = F.pad(x, (0, to_multiple(width, self.multiple), 0, to_multiple(height, self.multiple)))
        padded_height, padded_width = x.shape[-2:]
        if self.renormalizes:
            x = x * self.scale + self.shift
        maps = []
        for values, stride in zip(self.net(x), self.strides, strict=True):
            if self.channels_last:
                values = values.permute(0, 3, 1, 2)
            if not self.exact:
                values = resize(values, (ceil_div(padded_height, stride), ceil_div(padded_width, stride)))
            if self.multiple > 1:
                extra_rows = values.shape[2] - ceil_div(height, stride)
                extra_columns = values.shape[3] - ceil_div(width, stride)
                # Not a slice: torch.export would specialize it to cropped or to uncropped images.
                values = F.pad(values, (0, -extra_columns, 0, -extra_rows))
            maps.append(values)
        return requested_maps(maps, return_feature_maps)


class _SynchronizedBatchNormAct(SynchronizedBatchNorm2d):
    """timm's BatchNorm with a following activation, synchronized. It takes over the state of timm's layer."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class _Conv2dSame(Conv2dSame):
    """timm's convolution with TensorFlow's padding, whose graph holds for maps of every size.

    timm adds as many zeros as the size of the map needs. In a chain of such layers, sizes become formulas
    that torch.export simplifies for minutes and more. Here, the sum of both sides is the same for every size,
    and the zeros that timm would not add are at the end, where no window reaches them.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not in_graph():
            return super().forward(x)
        rows, columns = (self._padding(axis, x.shape[axis - 2]) for axis in (0, 1))
        return F.conv2d(
            F.pad(x, (*columns, *rows)), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )

    def _padding(self, axis: int, length: int) -> tuple[int, int]:
        """The zeros before and after a map of ``length``."""
        stride, reach = self.stride[axis], self.dilation[axis] * (self.kernel_size[axis] - 1)
        before: Any = to_least(stride - 1 - to_multiple(length, stride), reach) // 2
        return before, reach - before


def _synchronized(net: nn.Module) -> nn.Module:
    """The model, with every BatchNorm synchronized over all training devices, and graphs of any size."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child) is Conv2dSame:
                child.__class__ = _Conv2dSame
            if type(child) is BatchNormAct2d:
                new = _SynchronizedBatchNormAct.__new__(_SynchronizedBatchNormAct)
                new.__dict__ = child.__dict__.copy()
                setattr(module, name, new)
    return convert_model(net)


def _pretrained(name: str, found: Plan, in_channels: int) -> nn.Module:
    """The model with the weights that timm downloads."""
    if not timm.is_model_pretrained(name):
        raise UserError(f"timm has no trained weights for timm/{name}. {_OWN}")
    try:
        return found.build(name, True, in_channels)
    except Exception as error:  # each way of downloading raises its own errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"The weights of timm/{name} could not be downloaded: {reason[:300]} {_OWN}"
        ) from error
