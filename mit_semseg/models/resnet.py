"""The module path of the old package; holds no code."""

from .encoders.resnet import (
    BasicBlock,
    Bottleneck,
    GroupBottleneck,
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnext101,
)

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "GroupBottleneck",
    "ResNet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext101",
]
