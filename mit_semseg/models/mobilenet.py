"""The module path of the old package; holds no code."""

from .encoders.mobilenet import MobileNetV2, mobilenetv2

__all__ = ["MobileNetV2", "mobilenetv2"]
