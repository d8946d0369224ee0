"""The models: encoders, decoders, the builder that selects them by name, and the module that joins them."""

from .builder import ModelBuilder, check_pair
from .segmentation import SegmentationModule

__all__ = ["ModelBuilder", "SegmentationModule", "check_pair"]
