"""The module path of the old package; holds no code."""

from .encoders.hrnet import HighResolutionModule, HRNetV2, hrnetv2
from .encoders.resnet import BasicBlock, Bottleneck

__all__ = ["BasicBlock", "Bottleneck", "HRNetV2", "HighResolutionModule", "hrnetv2"]
