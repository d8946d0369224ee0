"""Things that are none of the eight classes: lamp posts, road signs and fences. They are unlabelled."""

from dataclasses import dataclass

import numpy as np

from . import labels
from .canvas import rgb
from .stage import Stage, shadow_of


@dataclass(frozen=True)
class Post:
    """A lamp post or a road sign at (x, z), metres; ``arm`` is how far a lamp reaches out, 0 for a sign."""

    x: float
    z: float
    height: float
    arm: float

    @property
    def depth(self) -> float:
        """Distance, in metres."""
        return self.z

    def cast_shadow(self, stage: Stage) -> None:
        """Darken a line on the ground."""
        stage.canvas.shade([shadow_of(stage, self.x, self.z, 0.14, self.height)], stage.light.shadows * 0.8)

    def draw(self, stage: Stage) -> None:
        """Draw the post, then its lamp or its sign."""
        scale = stage.camera.focal / self.z
        points = np.array(
            [[self.x, 0, self.z], [self.x, self.height, self.z], [self.x + self.arm, self.height, self.z]]
        )
        foot, top, tip = stage.camera.project(points)
        grey = stage.light.lit(rgb(88, 92, 96), self.z)
        stage.canvas.line(np.array([foot, top, tip]), max(0.12 * scale, 0.7), grey, labels.UNLABELLED)
        if self.arm:
            stage.canvas.ellipse(
                tip[0], tip[1], 0.3 * scale, 0.14 * scale, (250, 240, 206), labels.UNLABELLED
            )
        else:
            red = stage.light.lit(rgb(206, 30, 36), self.z)
            white = stage.light.lit(rgb(240, 240, 240), self.z)
            stage.canvas.ellipse(top[0], top[1], 0.34 * scale, 0.34 * scale, red, labels.UNLABELLED)
            stage.canvas.ellipse(top[0], top[1], 0.22 * scale, 0.22 * scale, white)


@dataclass(frozen=True)
class Fence:
    """A low wooden fence from (left, z) to (right, z), metres."""

    left: float
    right: float
    z: float

    @property
    def depth(self) -> float:
        """Distance, in metres."""
        return self.z

    def cast_shadow(self, stage: Stage) -> None:
        """Nothing: rails are too thin."""

    def draw(self, stage: Stage) -> None:
        """Draw two rails and their posts."""
        wood = stage.light.lit(rgb(150, 116, 80), self.z)
        scale = stage.camera.focal / self.z
        for height in (0.45, 0.85):
            rail = stage.camera.project(np.array([[self.left, height, self.z], [self.right, height, self.z]]))
            stage.canvas.line(rail, max(0.09 * scale, 0.5), wood, labels.UNLABELLED)
        for x in np.arange(self.left, self.right + 0.1, 1.5):
            post = stage.camera.project(np.array([[x, 0, self.z], [x, 1.0, self.z]]))
            stage.canvas.line(post, max(0.12 * scale, 0.5), wood, labels.UNLABELLED)
