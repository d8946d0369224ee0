"""The models: encoders, decoders, the builder that selects them by name, and the module that joins them."""

from . import hrnet, mobilenet, models, resnet
from .builder import ModelBuilder, check_pair
from .segmentation import SegmentationModule

__all__ = ["ModelBuilder", "SegmentationModule", "check_pair", "hrnet", "mobilenet", "models", "resnet"]
