"""Conversions of nested tensors and arrays, under the names of the old package."""

from .tree import as_numpy, as_variable, mark_volatile

__all__ = ["as_numpy", "as_variable", "mark_volatile"]
