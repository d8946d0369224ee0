"""A dataset without a download: small street scenes and landscapes, rendered from a seed with their labels.

``python -m mit_semseg.data.toy FOLDER`` writes it. Eight classes, in this order: sky, ground, road, water,
building, tree, car, person. A world in metres (``stage``) is lit by a time of day (``light``), laid out in
one of five ways (``avenue``, ``terrace``, ``shore``, ``country``) and drawn from far to near, picture and
labels in one go (``canvas``).
"""

from .dataset import write_dataset
from .labels import COLORS, NAMES
from .scene import render_scene

__all__ = ["COLORS", "NAMES", "render_scene", "write_dataset"]
