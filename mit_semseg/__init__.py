"""Semantic segmentation in PyTorch: encoders, decoders, synchronized BatchNorm and the three scripts.

Importing the package is cheap: torch is imported by the modules that compute with it.
"""

__version__ = "1.0.0"
