"""The module path of the old package; holds no code."""

from .builder import ModelBuilder
from .decoders.c1 import C1, C1DeepSup
from .decoders.ppm import PPM, PPMDeepsup
from .decoders.upernet import UPerNet
from .encoders.mobilenet import MobileNetV2Dilated
from .encoders.resnet import Resnet, ResnetDilated
from .segmentation import SegmentationModule

__all__ = [
    "C1",
    "PPM",
    "C1DeepSup",
    "MobileNetV2Dilated",
    "ModelBuilder",
    "PPMDeepsup",
    "Resnet",
    "ResnetDilated",
    "SegmentationModule",
    "UPerNet",
]
