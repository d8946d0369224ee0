"""The module path of the old package; holds no code."""

from .encoders.hrnet import HRNetV2, hrnetv2

__all__ = ["HRNetV2", "hrnetv2"]
