"""Helpers for nests of tensors, under their old names."""

from .convert import as_numpy, as_variable, mark_volatile

__all__ = ["as_numpy", "as_variable", "mark_volatile"]
