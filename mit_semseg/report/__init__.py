"""The HTML pages of an evaluation and of predictions. Each is one file that works offline."""

from .evaluation import render

__all__ = ["render"]
