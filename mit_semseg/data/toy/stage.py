"""What every drawn thing needs: a camera, a light, a canvas and random numbers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .canvas import Canvas
from .light import Light, Vector

NEAREST = 1.0
"""Metres in front of the camera below which geometry is cut off."""


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera above the origin of a world in metres: x to the right, y up, z ahead.

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
        scale = self.focal / np.maximum(points[..., 2], NEAREST)
        return np.stack(
            [self.center + points[..., 0] * scale, self.horizon + (self.eye - points[..., 1]) * scale],
            axis=-1,
        )

    def row_depth(self, rows: np.ndarray) -> np.ndarray:
        """Distance of the ground that is seen in ``rows`` below the horizon, in metres."""
        return self.focal * self.eye / (rows - self.horizon)


@dataclass
class Stage:
    """One scene in the making."""

    rng: np.random.Generator
    camera: Camera
    light: Light
    canvas: Canvas

    def face(self, corners: np.ndarray, color: np.ndarray, normal: Vector, label: int | None = None) -> None:
        """Draw a flat face of world ``corners``, (N, 3), lit and hazed as its normal and distance ask."""
        camera = self.camera
        points = []
        total = 0.0
        # Hundreds of small faces make a scene: plain numbers are faster than small arrays.
        for x, y, z in corners.tolist():
            total += z
            scale = camera.focal / max(z, NEAREST)
            points.append((camera.center + x * scale, camera.horizon + (camera.eye - y) * scale))
        self.canvas.polygon(points, self.light.lit(color, total / len(points), normal), label)

    def ground_polygon(self, points: np.ndarray) -> np.ndarray:
        """Ground points (N, 2) of x and z -> pixels (N, 2)."""
        points = np.asarray(points, np.float64)
        return self.camera.project(np.stack([points[:, 0], np.zeros(len(points)), points[:, 1]], axis=1))

    def span(self, depth: float, margin: float = 0.0) -> tuple[float, float]:
        """Leftmost and rightmost x that are in the picture at a depth, widened by ``margin`` metres."""
        per_pixel = depth / self.camera.focal
        return (
            -self.camera.center * per_pixel - margin,
            (self.canvas.width - self.camera.center) * per_pixel + margin,
        )


class Thing(Protocol):
    """Something that stands on the ground."""

    @property
    def depth(self) -> float:
        """Distance from the camera, in metres: nearer things are drawn over farther ones."""
        ...

    def cast_shadow(self, stage: Stage) -> None:
        """Darken the ground; called for all things before any is drawn."""
        ...

    def draw(self, stage: Stage) -> None:
        """Draw picture and labels."""
        ...


def shadow_of(stage: Stage, x: float, z: float, width: float, height: float) -> np.ndarray:
    """Pixels, (8, 2), of the ground shadow of an upright board of this width and height, in metres."""
    dx, dz = stage.light.shadow_direction()
    half = width / 2
    reach = np.array([0.0, 0.6, 0.9, 1.0]) * height
    taper = np.array([0.7, 1.0, 0.8, 0.35]) * half
    depths = np.maximum(z + reach * dz, NEAREST)
    left = np.stack([x + reach * dx - taper, depths], axis=1)
    right = np.stack([x + reach * dx + taper, depths], axis=1)
    # A board seen edge-on would cast a line: keep it a little thick along z too.
    left[:, 1] += 0.1 * half
    right[:, 1] = np.maximum(right[:, 1] - 0.1 * half, NEAREST)
    return stage.ground_polygon(np.concatenate([left, right[::-1]]))
