"""The module path of the old package; holds no code."""

from .encoders.resnet import GroupBottleneck, ResNeXt, resnext101

__all__ = ["GroupBottleneck", "ResNeXt", "resnext101"]
