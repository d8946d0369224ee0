"""The module path of the old package; holds no code."""

from .encoders.resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnext101

__all__ = ["ResNet", "resnet18", "resnet34", "resnet50", "resnet101", "resnext101"]
