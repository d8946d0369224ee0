"""Export: a trained network as one file for other runtimes, which takes images of every size."""

from .metadata import Metadata
from .opened import OpenedModel, is_exported, open_exported, read_metadata
from .write import FORMATS, OUTPUTS, Options, write_model

__all__ = [
    "FORMATS",
    "OUTPUTS",
    "Metadata",
    "OpenedModel",
    "Options",
    "is_exported",
    "open_exported",
    "read_metadata",
    "write_model",
]
