"""Unlabelled objects that belong to none of the eight classes: lamp posts, road signs and fences."""

from dataclasses import dataclass

import numpy as np

from .canvas import Label, rgb
from .scene_context import SceneContext, upright_shadow


@dataclass(frozen=True)
class Post:
    """A lamp post or a road sign at (x, z), in metres. ``arm``: reach of the lamp; 0 for a sign."""

    x: float
    z: float
    height: float
    arm: float

    @property
    def depth(self) -> float:
        """Distance, in metres."""
        return self.z

    def cast_shadow(self, scene: SceneContext) -> None:
        """Darken a line on the ground."""
        scene.canvas.shade(
            [upright_shadow(scene, self.x, self.z, 0.14, self.height)], scene.light.shadows * 0.8
        )

    def draw(self, scene: SceneContext) -> None:
        """Draw the post, then its lamp or its sign."""
        scale = scene.camera.focal / self.z
        points = np.array(
            [[self.x, 0, self.z], [self.x, self.height, self.z], [self.x + self.arm, self.height, self.z]]
        )
        foot, top, tip = scene.camera.project(points)
        grey = scene.light.shaded_color(rgb(88, 92, 96), self.z)
        scene.canvas.line(np.array([foot, top, tip]), max(0.12 * scale, 0.7), grey, Label.UNLABELLED)
        if self.arm:
            scene.canvas.ellipse(tip[0], tip[1], 0.3 * scale, 0.14 * scale, (250, 240, 206), Label.UNLABELLED)
        else:
            red = scene.light.shaded_color(rgb(206, 30, 36), self.z)
            white = scene.light.shaded_color(rgb(240, 240, 240), self.z)
            scene.canvas.ellipse(top[0], top[1], 0.34 * scale, 0.34 * scale, red, Label.UNLABELLED)
            scene.canvas.ellipse(top[0], top[1], 0.22 * scale, 0.22 * scale, white)


@dataclass(frozen=True)
class Fence:
    """A low wooden fence from (left, z) to (right, z), in metres."""

    left: float
    right: float
    z: float

    @property
    def depth(self) -> float:
        """Distance, in metres."""
        return self.z

    def cast_shadow(self, scene: SceneContext) -> None:
        """Do nothing: rails are too thin for a shadow."""

    def draw(self, scene: SceneContext) -> None:
        """Draw two rails and their posts."""
        wood = scene.light.shaded_color(rgb(150, 116, 80), self.z)
        scale = scene.camera.focal / self.z
        for height in (0.45, 0.85):
            rail = scene.camera.project(np.array([[self.left, height, self.z], [self.right, height, self.z]]))
            scene.canvas.line(rail, max(0.09 * scale, 0.5), wood, Label.UNLABELLED)
        for x in np.arange(self.left, self.right + 0.1, 1.5):
            post = scene.camera.project(np.array([[x, 0, self.z], [x, 1.0, self.z]]))
            scene.canvas.line(post, max(0.12 * scale, 0.5), wood, Label.UNLABELLED)
