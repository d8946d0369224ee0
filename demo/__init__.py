"""The dataset of the demo: small street scenes and landscapes with labels, rendered from a seed.

``python -m demo FOLDER`` writes it. There are eight classes (``canvas.Label``). A scene is a world in metres
with a camera (``scene_context``) and a time of day (``light``). One of five layouts (``streets``,
``landscapes``) fills it with a ``backdrop``, ground and water (``ground``), and objects: ``house``, ``car``,
``person``, ``plants``, ``furniture``. They are drawn from far to near, each into the picture and the labels
at the same time (``canvas``).

This folder belongs to the repository: ``mit_semseg`` never imports it, and the wheel does not contain it.
"""

from .canvas import COLORS, NAMES, Label
from .dataset import write_dataset
from .scene import render_scene

__all__ = ["COLORS", "NAMES", "Label", "render_scene", "write_dataset"]
