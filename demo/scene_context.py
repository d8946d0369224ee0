"""What all objects of a scene share: camera, light, canvas and random numbers; and the order of drawing."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .canvas import Canvas
from .light import Light, Vector

NEAR_PLANE = 1.0
"""Smallest depth in metres: nearer geometry is moved to this depth."""


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera above the origin of a world in metres: x right, y up, z forward.

    Attributes:
        focal: focal length, in pixels.
        center: column of the optical axis, in pixels.
        horizon: row of the horizon, in pixels.
        eye: height above the ground, in metres.
    """

    focal: float
    center: float
    horizon: float
    eye: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) -> pixels (..., 2)."""
        points = np.asarray(points, np.float64)
        scale = self.focal / np.maximum(points[..., 2], NEAR_PLANE)
        return np.stack(
            [self.center + points[..., 0] * scale, self.horizon + (self.eye - points[..., 1]) * scale],
            axis=-1,
        )

    def row_depth(self, rows: np.ndarray) -> np.ndarray:
        """Depth in metres of the ground in ``rows`` below the horizon."""
        return self.focal * self.eye / (rows - self.horizon)


@dataclass
class SceneContext:
    """A scene while it is drawn."""

    rng: np.random.Generator
    camera: Camera
    light: Light
    canvas: Canvas

    def draw_face(
        self, corners: np.ndarray, color: np.ndarray, normal: Vector, label: int | None = None
    ) -> None:
        """Draw a flat face with world ``corners``, (N, 3), with light and haze for its normal and depth."""
        camera = self.camera
        points = []
        total = 0.0
        # A scene has hundreds of small faces, and plain floats are faster than small arrays.
        for x, y, z in corners.tolist():
            total += z
            scale = camera.focal / max(z, NEAR_PLANE)
            points.append((camera.center + x * scale, camera.horizon + (camera.eye - y) * scale))
        self.canvas.polygon(points, self.light.shaded_color(color, total / len(points), normal), label)

    def ground_polygon(self, points: np.ndarray) -> np.ndarray:
        """Ground points (x, z), (N, 2) -> pixels (N, 2)."""
        points = np.asarray(points, np.float64)
        return self.camera.project(np.stack([points[:, 0], np.zeros(len(points)), points[:, 1]], axis=1))

    def visible_range(self, depth: float, margin: float = 0.0) -> tuple[float, float]:
        """Leftmost and rightmost visible x at a depth, widened by ``margin`` metres."""
        per_pixel = depth / self.camera.focal
        return (
            -self.camera.center * per_pixel - margin,
            (self.canvas.width - self.camera.center) * per_pixel + margin,
        )


class SceneObject(Protocol):
    """Anything that stands on the ground."""

    @property
    def depth(self) -> float:
        """Distance from the camera in metres. Nearer objects are drawn over farther ones."""
        ...

    def cast_shadow(self, scene: SceneContext) -> None:
        """Darken the ground. Called for all objects before the first is drawn."""
        ...

    def draw(self, scene: SceneContext) -> None:
        """Draw the object and its labels."""
        ...


def upright_shadow(scene: SceneContext, x: float, z: float, width: float, height: float) -> np.ndarray:
    """Ground shadow, pixels (8, 2), of an upright board at (x, z); its width and height are in metres."""
    dx, dz = scene.light.shadow_direction()
    half = width / 2
    reach = np.array([0.0, 0.6, 0.9, 1.0]) * height
    taper = np.array([0.7, 1.0, 0.8, 0.35]) * half
    depths = np.maximum(z + reach * dz, NEAR_PLANE)
    left = np.stack([x + reach * dx - taper, depths], axis=1)
    right = np.stack([x + reach * dx + taper, depths], axis=1)
    # The shadow of a board that the sun sees edge-on would be a line: give it some thickness along z.
    left[:, 1] += 0.1 * half
    right[:, 1] = np.maximum(right[:, 1] - 0.1 * half, NEAR_PLANE)
    return scene.ground_polygon(np.concatenate([left, right[::-1]]))


def draw_objects(scene: SceneContext, objects: list[SceneObject]) -> None:
    """Draw all shadows, then the objects from far to near."""
    for obj in objects:
        obj.cast_shadow(scene)
    for obj in sorted(objects, key=lambda obj: -obj.depth):
        obj.draw(scene)
