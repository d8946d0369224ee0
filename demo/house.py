"""Houses: walls under a gabled or flat roof, with a chimney."""

from dataclasses import dataclass

import numpy as np

from .canvas import Label, rgb
from .facade import Wall, draw_window
from .light import Vector
from .scene_context import NEAR_PLANE, SceneContext

_WALL_COLORS = [
    rgb(214, 190, 150), rgb(176, 92, 72), rgb(228, 220, 206), rgb(196, 160, 96), rgb(150, 146, 146),
    rgb(206, 136, 110), rgb(160, 178, 186), rgb(132, 82, 62), rgb(222, 204, 120), rgb(120, 130, 140),
]  # fmt: skip
_ROOF_COLORS = [rgb(152, 66, 46), rgb(88, 78, 76), rgb(116, 62, 48), rgb(74, 84, 98), rgb(128, 96, 74)]
_EAVES = 0.35  # overhang of the roof over the walls, in metres


@dataclass(frozen=True)
class House:
    """A box on the ground from (left, front) to (right, back), in metres, with a roof.

    Attributes:
        height: of the walls, in metres.
        roof: "flat", "front" (the gable faces the viewer) or "side" (the eaves do).
        roof_height: height of a gabled roof, in metres.
        storey: height of a storey, in metres.
        spacing: distance between windows, in metres.
        stone_rows: whether the walls show rows of stones.
    """

    left: float
    right: float
    front: float
    back: float
    height: float
    roof: str
    roof_height: float
    storey: float
    spacing: float
    wall_color: np.ndarray
    roof_color: np.ndarray
    stone_rows: bool

    @property
    def depth(self) -> float:
        """Distance of the front, in metres."""
        return self.front

    def cast_shadow(self, scene: SceneContext) -> None:
        """Darken the ground from the walls to the shadow of the eaves."""
        left, right, front, back = self.left, self.right, self.front, self.back
        foot = np.array([[left, front], [right, front], [right, back], [left, back]])
        thrown = foot + np.array(scene.light.shadow_direction()) * min(self.height, 7.0)
        polygons = [thrown, *(np.array([foot[i - 1], foot[i], thrown[i], thrown[i - 1]]) for i in range(4))]
        scene.canvas.shade([scene.ground_polygon(points) for points in polygons], scene.light.shadows)

    def draw(self, scene: SceneContext) -> None:
        """Draw the visible sides: the front, and the side that faces the middle of the picture."""
        front, back = max(self.front, NEAR_PLANE), max(self.back, NEAR_PLANE)
        side = self._visible_side()
        if self.roof != "flat":
            self._draw_chimney(scene)
        if side is not None:
            origin, along = np.array([side, 0.0, front]), np.array([0.0, 0.0, back - front])
            self._draw_wall(scene, origin, along, _sideways(side))
        if self.roof != "flat":
            self._draw_roof(scene, side)
        if self.front > NEAR_PLANE:
            origin, along = np.array([self.left, 0.0, front]), np.array([self.right - self.left, 0.0, 0.0])
            self._draw_wall(scene, origin, along, (0.0, 0.0, -1.0))
            if self.roof == "front":
                self._draw_gable(scene)
        if self.roof == "flat":
            self._draw_cornice(scene, front, back, side)

    def _visible_side(self) -> float | None:
        """The x of the visible side wall, or None if neither is visible."""
        if self.left > 0:
            return self.left
        return self.right if self.right < 0 else None

    def _draw_wall(self, scene: SceneContext, origin: np.ndarray, along: np.ndarray, normal: Vector) -> None:
        wall = Wall(origin, along, self.height, normal, self.wall_color, self.roof_color * 0.7)
        wall.draw(scene, self.storey, self.spacing, self.stone_rows)

    def _draw_roof(self, scene: SceneContext, side: float | None) -> None:
        """Draw the visible slope and, if the eaves face the viewer, the gable beside it."""
        low, ridge = self.height - 0.1, self.height + self.roof_height
        left, right, front = self.left - _EAVES, self.right + _EAVES, max(self.front - _EAVES, NEAR_PLANE)
        if self.roof == "side":
            middle = (self.front + self.back) / 2
            if side is not None:
                gable = [
                    [side, self.height, self.front],
                    [side, self.height, self.back],
                    [side, ridge - 0.2, middle],
                ]
                scene.draw_face(np.array(gable), self.wall_color * 0.95, _sideways(side), Label.BUILDING)
            slope = np.array(
                [[left, low, front], [right, low, front], [right, ridge, middle], [left, ridge, middle]]
            )
            normal = _unit(0.0, middle - front, low - ridge)
        elif side is None:
            return
        else:
            middle, back = (self.left + self.right) / 2, self.back + _EAVES
            edge = left if side == self.left else right
            slope = np.array(
                [[edge, low, front], [edge, low, back], [middle, ridge, back], [middle, ridge, front]]
            )
            normal = _unit(_sideways(side)[0] * (ridge - low), abs(middle - edge), 0.0)
        scene.draw_face(slope, self.roof_color, normal, Label.BUILDING)
        rise = slope[[3, 2]] - slope[[0, 1]]
        for share in np.arange(0.15, 1, 0.17):
            row = slope[[0, 1]] + rise * share
            scene.draw_face(np.concatenate([row, (row + rise * 0.04)[::-1]]), self.roof_color * 0.8, normal)

    def _draw_gable(self, scene: SceneContext) -> None:
        front, ridge, middle = self.front, self.height + self.roof_height, (self.left + self.right) / 2
        normal = (0.0, 0.0, -1.0)
        gable = [[self.left, self.height, front], [self.right, self.height, front], [middle, ridge, front]]
        scene.draw_face(np.array(gable), self.wall_color, normal, Label.BUILDING)
        sill, top = self.height + 0.2 * self.roof_height, self.height + 0.5 * self.roof_height
        pane = [[middle + dx, y, front] for dx, y in ((-0.4, sill), (0.4, sill), (0.4, top), (-0.4, top))]
        draw_window(scene, np.array(pane), normal)
        low = self.height - 0.25
        edge = [
            [self.left - _EAVES, low, front],
            [middle, ridge + 0.1, front],
            [self.right + _EAVES, low, front],
        ]
        color = scene.light.shaded_color(self.roof_color * 0.85, front, normal)
        thickness = 0.32 * scene.camera.focal / front
        scene.canvas.line(scene.camera.project(np.array(edge)), thickness, color, Label.BUILDING)

    def _draw_cornice(self, scene: SceneContext, front: float, back: float, side: float | None) -> None:
        low, high, over = self.height - 0.35, self.height + 0.25, 0.25
        stone = self.wall_color * 0.6 + 60
        if side is not None:
            x = side + _sideways(side)[0] * over
            band = np.array([[x, low, front], [x, low, back], [x, high, back], [x, high, front]])
            scene.draw_face(band, stone, _sideways(side), Label.BUILDING)
        if self.front > NEAR_PLANE:
            left, right = self.left - over, self.right + over
            band = np.array(
                [[left, low, front], [right, low, front], [right, high, front], [left, high, front]]
            )
            scene.draw_face(band, stone, (0.0, 0.0, -1.0), Label.BUILDING)

    def _draw_chimney(self, scene: SceneContext) -> None:
        x, z = self.left + (self.right - self.left) * 0.72, (self.front + self.back) / 2
        low, top = self.height + self.roof_height * 0.3, self.height + self.roof_height + 0.5
        stack = np.array([[x - 0.35, low, z], [x + 0.35, low, z], [x + 0.35, top, z], [x - 0.35, top, z]])
        scene.draw_face(stack, rgb(140, 82, 66), (0.0, 0.0, -1.0), Label.BUILDING)


def _sideways(x: float) -> Vector:
    """Normal of a side wall at ``x``, towards the middle of the picture."""
    return (1.0 if x < 0 else -1.0, 0.0, 0.0)


def _unit(x: float, y: float, z: float) -> Vector:
    length = (x * x + y * y + z * z) ** 0.5
    return x / length, y / length, z / length


def pick_house(
    rng: np.random.Generator,
    sides: tuple[float, float],
    depths: tuple[float, float],
    height: float,
    roofs: tuple[str, ...],
) -> House:
    """A random house between two x (in any order) and two depths, in metres, with one of ``roofs``."""
    left, right = sorted(sides)
    front, back = depths
    roof = str(rng.choice(roofs))
    across = right - left if roof == "front" else back - front
    return House(
        left=left,
        right=right,
        front=front,
        back=back,
        height=height,
        roof=roof,
        roof_height=min(across, 9.0) * rng.uniform(0.35, 0.6),
        storey=rng.uniform(2.5, 3.1),
        spacing=rng.uniform(1.6, 2.4),
        wall_color=np.clip(
            _WALL_COLORS[int(rng.integers(len(_WALL_COLORS)))] + rng.uniform(-14, 14, 3), 40, 240
        ),
        roof_color=_ROOF_COLORS[int(rng.integers(len(_ROOF_COLORS)))] + rng.uniform(-14, 14, 3),
        stone_rows=bool(rng.random() < 0.5),
    )
