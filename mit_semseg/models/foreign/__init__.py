"""Models of other programs: recognized by their config and names, and turned into models of this package.

`convert` is the entry. Each family has a module, which reads the config of the other program, names an
encoder and a decoder of this package with their options, and renames the weights.
"""

from .eomt import NO_BASE
from .families import convert
from .hub import PREFIX, located
from .model import ForeignModel, ForeignPart
from .source import Source, files_of_source, read_source

__all__ = [
    "NO_BASE",
    "PREFIX",
    "ForeignModel",
    "ForeignPart",
    "Source",
    "convert",
    "files_of_source",
    "located",
    "read_source",
]
