"""The module path of the old package; holds no code."""

from .tree import as_numpy, as_variable, mark_volatile

__all__ = ["as_numpy", "as_variable", "mark_volatile"]
