"""Models of timm as encoders: adapted to images of any size, to the project's normalization and BatchNorm.

Source: Wightman 2019, PyTorch Image Models.
"""

from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from ...errors import UserError
from ...lib.nn import SynchronizedBatchNorm2d, convert_model
from ..layers import resize
from .timm_plan import Plan, nhwc, plan

_OWN = "Set MODEL.pretrained False for random weights, or MODEL.weights_encoder to a checkpoint."


class TimmEncoder(nn.Module):
    """A model of timm that gives its feature maps.

    Images come as for all encoders, normalized by ImageNet's mean and deviation, and are brought to those
    that the model was trained with. One that takes only multiples of some side gets images padded at the
    right and at the bottom with ImageNet's mean colour, and its maps are cut to the images' own size.

    Shape: (N, 3, H, W) -> maps (N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])), finest first,
        from stride 4 on; the last one only, for a model of a single scale; ``[last map]`` without
        ``return_feature_maps``.

    Args:
        name: of the model in timm, with or without the tag of its weights.
        output_stride: of the last map; 0 for the model's own.
        pretrained: download the weights that timm names, once; False for random ones.

    Attributes:
        mean, std: of the RGB values from 0 to 1 that the model was trained with.
        multiple: of pixels that a side is padded to.

    Raises: UserError for a model that can't be had like this, and for weights that can't be downloaded.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, output_stride: int = 0, pretrained: bool = False) -> None:
        super().__init__()
        found = plan(name, output_stride)
        self.channels, self.strides = found.channels, found.strides
        self.multiple, self.exact = found.multiple, found.exact
        net: Any = _pretrained(name, found) if pretrained else found.build(name)
        self.channels_last = nhwc(net)
        self.mean: tuple[float, ...] = tuple(net.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = tuple(net.pretrained_cfg["std"])
        mean, std, imagenet_mean, imagenet_std = (
            torch.tensor(values, dtype=torch.float64).view(3, 1, 1)
            for values in (self.mean, self.std, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )
        self.renormalizes = (self.mean, self.std) != (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        self.register_buffer("scale", (imagenet_std / std).float(), persistent=False)
        self.register_buffer("shift", ((imagenet_mean - mean) / std).float(), persistent=False)
        self.net = _synchronized(net)

    def forward(self, x: Tensor, return_feature_maps: bool = False) -> list[Tensor]:
        height, width = x.shape[-2:]
        if self.multiple > 1:
            x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        padded_height, padded_width = x.shape[-2:]
        if self.renormalizes:
            x = x * self.scale + self.shift
        maps = []
        for values, stride in zip(self.net(x), self.strides, strict=True):
            if self.channels_last:
                values = values.permute(0, 3, 1, 2)
            if not self.exact:
                values = resize(values, (-(-padded_height // stride), -(-padded_width // stride)))
            if self.multiple > 1:
                extra_rows = values.shape[2] - -(-height // stride)
                extra_columns = values.shape[3] - -(-width // stride)
                # Not a slice, which would be exported for images that are cut, or for those that are not.
                values = F.pad(values, (0, -extra_columns, 0, -extra_rows))
            maps.append(values)
        return maps if return_feature_maps else maps[-1:]


class _SynchronizedBatchNormAct(SynchronizedBatchNorm2d):
    """timm's BatchNorm with an activation behind it, synchronized; its state is that of the layer it was."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


def _synchronized(net: nn.Module) -> nn.Module:
    """The model with every BatchNorm synchronized over the devices that train together."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child) is BatchNormAct2d:
                new = _SynchronizedBatchNormAct.__new__(_SynchronizedBatchNormAct)
                new.__dict__ = child.__dict__.copy()
                setattr(module, name, new)
    return convert_model(net)


def _pretrained(name: str, found: Plan) -> nn.Module:
    """The model with the weights that timm downloads."""
    if not timm.is_model_pretrained(name):
        raise UserError(f"timm has no trained weights for timm/{name}. {_OWN}")
    try:
        return found.build(name, pretrained=True)
    except Exception as error:  # each way to a network, and each that it fails, has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"The weights of timm/{name} could not be fetched: {reason[:300]} {_OWN}") from error
