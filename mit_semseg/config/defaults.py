"""The module path of the old package; holds no code."""

from . import cfg as _C

__all__ = ["_C"]
