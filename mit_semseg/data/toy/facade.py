"""One wall of a house: courses of stone, windows and a door."""

from dataclasses import dataclass

import numpy as np

from . import labels
from .canvas import as_color, rgb
from .light import Vector
from .stage import Stage


@dataclass(frozen=True)
class Wall:
    """A wall that stands on the ground.

    Attributes:
        origin: its foot at one end, world point (3,).
        along: from there to its foot at the other end, (3,).
        height: in metres.
        normal: unit vector out of the house.
        color: of the wall; ``wood`` of its door.
    """

    origin: np.ndarray
    along: np.ndarray
    height: float
    normal: Vector
    color: np.ndarray
    wood: np.ndarray

    def quad(self, start: float, end: float, low: float, high: float) -> np.ndarray:
        """World corners, (4, 3), of a rectangle: shares of the wall's length, and metres above the ground."""
        foot, far = self.origin + self.along * start, self.origin + self.along * end
        corners = np.array([foot, far, far, foot])
        corners[:, 1] = low, low, high, high
        return corners

    def draw(self, stage: Stage, storey: float, spacing: float, courses: bool) -> None:
        """Draw it with windows every ``spacing`` metres on storeys of ``storey`` metres."""
        # A wall that runs away from the viewer is drawn in parts, since each part has its own haze.
        parts = max(1, round(abs(self.along[2]) / 3))
        for part in range(parts):
            start, end = part / parts, (part + 1) / parts
            stage.face(self.quad(start, end, 0, self.height), self.color, self.normal, labels.BUILDING)
            stage.face(self.quad(start, end, 0, 0.5), self.color * 0.72, self.normal)
        pixels_a_metre = stage.camera.focal / float(self.origin[2] + self.along[2] / 2)
        if courses and pixels_a_metre > 2.7:
            for low in np.arange(0.45, self.height, 0.45):
                stage.face(self.quad(0, 1, low, low + 0.05), self.color * 0.8, self.normal)
        if spacing * pixels_a_metre > 3:
            self._draw_openings(stage, storey, spacing)

    def _draw_openings(self, stage: Stage, storey: float, spacing: float) -> None:
        length = float(np.linalg.norm(self.along))
        columns = max(1, int(length / spacing))
        half = min(0.5, spacing * 0.3) / length
        door = int(stage.rng.integers(columns))
        for column in range(columns):
            middle = (column + 0.5) / columns
            for floor in range(max(1, int((self.height - 0.4) / storey))):
                if floor == 0 and column == door:
                    self._draw_door(stage, middle, half * 0.95)
                    continue
                low = floor * storey + 0.95
                high = min(low + storey * 0.52, self.height * 0.97)
                frame = self.quad(middle - half * 1.25, middle + half * 1.25, low - 0.15, high + 0.12)
                stage.face(frame, self.color * 0.4 + 140, self.normal)
                draw_window(stage, self.quad(middle - half, middle + half, low, high), self.normal)

    def _draw_door(self, stage: Stage, middle: float, half: float) -> None:
        frame = self.quad(middle - half * 1.2, middle + half * 1.2, 0, 2.22)
        stage.face(frame, self.color * 0.4 + 130, self.normal)
        stage.face(self.quad(middle - half, middle + half, 0, 2.1), self.wood, self.normal)
        panel = self.quad(middle - half * 0.6, middle + half * 0.6, 1.15, 1.9)
        stage.face(panel, self.wood * 0.6, self.normal)


def draw_window(stage: Stage, pane: np.ndarray, normal: Vector) -> None:
    """A pane with world corners (4, 3), the lower two first; lit from inside at dusk."""
    light = stage.light
    if light.lamps and stage.rng.random() < 0.55:
        lamp = rgb(255, 214, 130) * stage.rng.uniform(0.8, 1.0)
        stage.canvas.polygon(stage.camera.project(pane), as_color(lamp))
    else:
        glass = rgb(44, 56, 72) + (light.zenith - 60) * 0.35 * stage.rng.uniform(0.2, 1.0)
        stage.face(pane, glass, normal)
    width = float(np.abs(pane[1] - pane[0]).sum())
    if width * stage.camera.focal / pane[0, 2] > 4:
        bar = stage.camera.project(np.array([(pane[0] + pane[1]) / 2, (pane[2] + pane[3]) / 2]))
        stage.canvas.line(bar, 0.35, light.lit(rgb(224, 222, 214), float(pane[0, 2]), normal))
