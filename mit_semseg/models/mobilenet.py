"""The module path of the old package; holds no code."""

from .encoders.mobilenet import InvertedResidual, MobileNetV2, mobilenetv2

__all__ = ["InvertedResidual", "MobileNetV2", "mobilenetv2"]
