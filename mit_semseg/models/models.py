"""The module path of the old package; holds no code."""

from .builder import ModelBuilder
from .encoders.mobilenet import MobileNetV2Dilated
from .encoders.resnet import Resnet, ResnetDilated
from .segmentation import SegmentationModule

__all__ = ["MobileNetV2Dilated", "ModelBuilder", "Resnet", "ResnetDilated", "SegmentationModule"]
