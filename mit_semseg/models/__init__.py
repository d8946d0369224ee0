"""The models: encoders, decoders, the builder that selects them by name, and the module that joins them."""

from . import hrnet, mobilenet, models, resnet, resnext
from .builder import ModelBuilder
from .segmentation import SegmentationModule
from .spec import ModelSpec, check_pair

__all__ = [
    "ModelBuilder",
    "ModelSpec",
    "SegmentationModule",
    "check_pair",
    "hrnet",
    "mobilenet",
    "models",
    "resnet",
    "resnext",
]
