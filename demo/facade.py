"""A wall of a house with rows of stones, windows and a door."""

from dataclasses import dataclass

import numpy as np

from .canvas import Label, pillow_color, rgb
from .light import Vector
from .scene_context import SceneContext


@dataclass(frozen=True)
class Wall:
    """A wall that stands on the ground.

    Attributes:
        origin: its foot at one end, world point (3,).
        along: from there to its foot at the other end, (3,).
        height: in metres.
        normal: unit vector out of the house.
        color: colour of the wall.
    """

    origin: np.ndarray
    along: np.ndarray
    height: float
    normal: Vector
    color: np.ndarray
    door_color: np.ndarray

    def quad(self, start: float, end: float, low: float, high: float) -> np.ndarray:
        """World corners, (4, 3), of a rectangle from shares of the wall's length and heights in metres."""
        foot, far = self.origin + self.along * start, self.origin + self.along * end
        corners = np.array([foot, far, far, foot])
        corners[:, 1] = low, low, high, high
        return corners

    def draw(self, scene: SceneContext, storey: float, spacing: float, stone_rows: bool) -> None:
        """Draw the wall with windows every ``spacing`` metres on storeys of ``storey`` metres."""
        # A wall that runs away from the viewer is drawn in parts because haze depends on depth.
        parts = max(1, round(abs(self.along[2]) / 3))
        for part in range(parts):
            start, end = part / parts, (part + 1) / parts
            scene.draw_face(self.quad(start, end, 0, self.height), self.color, self.normal, Label.BUILDING)
            scene.draw_face(self.quad(start, end, 0, 0.5), self.color * 0.72, self.normal)
        pixels_per_metre = scene.camera.focal / float(self.origin[2] + self.along[2] / 2)
        if stone_rows and pixels_per_metre > 2.7:
            for low in np.arange(0.45, self.height, 0.45):
                scene.draw_face(self.quad(0, 1, low, low + 0.05), self.color * 0.8, self.normal)
        if spacing * pixels_per_metre > 3:
            self._draw_openings(scene, storey, spacing)

    def _draw_openings(self, scene: SceneContext, storey: float, spacing: float) -> None:
        length = float(np.linalg.norm(self.along))
        columns = max(1, int(length / spacing))
        half = min(0.5, spacing * 0.3) / length
        door = int(scene.rng.integers(columns))
        for column in range(columns):
            middle = (column + 0.5) / columns
            for floor in range(max(1, int((self.height - 0.4) / storey))):
                if floor == 0 and column == door:
                    self._draw_door(scene, middle, half * 0.95)
                    continue
                low = floor * storey + 0.95
                high = min(low + storey * 0.52, self.height * 0.97)
                frame = self.quad(middle - half * 1.25, middle + half * 1.25, low - 0.15, high + 0.12)
                scene.draw_face(frame, self.color * 0.4 + 140, self.normal)
                draw_window(scene, self.quad(middle - half, middle + half, low, high), self.normal)

    def _draw_door(self, scene: SceneContext, middle: float, half: float) -> None:
        frame = self.quad(middle - half * 1.2, middle + half * 1.2, 0, 2.22)
        scene.draw_face(frame, self.color * 0.4 + 130, self.normal)
        scene.draw_face(self.quad(middle - half, middle + half, 0, 2.1), self.door_color, self.normal)
        panel = self.quad(middle - half * 0.6, middle + half * 0.6, 1.15, 1.9)
        scene.draw_face(panel, self.door_color * 0.6, self.normal)


def draw_window(scene: SceneContext, pane: np.ndarray, normal: Vector) -> None:
    """Draw a pane with world corners (4, 3), lower two first. At dusk it can be lit from inside."""
    light = scene.light
    if light.lit_windows and scene.rng.random() < 0.55:
        lamp = rgb(255, 214, 130) * scene.rng.uniform(0.8, 1.0)
        scene.canvas.polygon(scene.camera.project(pane), pillow_color(lamp))
    else:
        glass = rgb(44, 56, 72) + (light.zenith - 60) * 0.35 * scene.rng.uniform(0.2, 1.0)
        scene.draw_face(pane, glass, normal)
    width = float(np.abs(pane[1] - pane[0]).sum())
    if width * scene.camera.focal / pane[0, 2] > 4:
        bar = scene.camera.project(np.array([(pane[0] + pane[1]) / 2, (pane[2] + pane[3]) / 2]))
        scene.canvas.line(bar, 0.35, light.shaded_color(rgb(224, 222, 214), float(pane[0, 2]), normal))
