"""The report on an evaluation: one HTML page that needs no other file, no network and no scripts."""

from .page import render

__all__ = ["render"]
