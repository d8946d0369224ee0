"""Cars: side views, extruded to solid bodies."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .canvas import Label, rgb
from .light import Vector
from .scene_context import SceneContext, SceneObject

Outline = list[tuple[float, float]]


@dataclass(frozen=True)
class CarModel:
    """A car model. Points are (along, up) in metres from the centre on the ground; ``along`` is forward.

    Attributes:
        outline: side view from the bottom of the rear bumper over the roof to the bottom of the front bumper.
        glass: indices of the edges of the outline that are the rear window and the windscreen.
        windows: side windows.
        half_width: in metres.
        lean: inward slope of the cabin, as a share of the half width per metre.
    """

    outline: Outline
    glass: tuple[int, int]
    windows: list[Outline]
    half_width: float
    lean: float = 0.16


HATCHBACK = CarModel(
    [(-1.95, 0.3), (-2.0, 0.85), (-1.75, 1.42), (0.25, 1.5), (0.95, 0.98), (1.9, 0.82), (2.0, 0.3)],
    (1, 3),
    [
        [(-1.5, 0.92), (-1.4, 1.34), (-0.5, 1.38), (-0.5, 0.92)],
        [(-0.4, 0.92), (-0.4, 1.38), (0.15, 1.38), (0.65, 0.94)],
    ],
    0.88,
)
SEDAN = CarModel(
    [
        (-2.2, 0.3),
        (-2.25, 0.92),
        (-1.6, 0.98),
        (-1.05, 1.43),
        (0.3, 1.45),
        (1.0, 0.96),
        (2.1, 0.82),
        (2.2, 0.3),
    ],
    (2, 4),
    [
        [(-1.4, 0.96), (-0.95, 1.34), (-0.4, 1.36), (-0.4, 0.94)],
        [(-0.3, 0.94), (-0.3, 1.36), (0.22, 1.35), (0.7, 0.94)],
    ],
    0.9,
)
ESTATE = CarModel(
    [(-2.25, 0.35), (-2.3, 0.95), (-2.05, 1.55), (0.35, 1.62), (1.05, 1.08), (2.1, 0.95), (2.2, 0.35)],
    (1, 3),
    [
        [(-2.0, 1.02), (-1.85, 1.44), (-1.25, 1.46), (-1.25, 1.02)],
        [(-1.15, 1.02), (-1.15, 1.46), (-0.35, 1.5), (-0.35, 1.02)],
        [(-0.25, 1.02), (-0.25, 1.5), (0.25, 1.5), (0.75, 1.04)],
    ],
    0.95,
)
VAN = CarModel(
    [(-2.4, 0.35), (-2.45, 1.1), (-2.4, 2.05), (1.2, 2.1), (1.9, 1.2), (2.4, 1.0), (2.45, 0.35)],
    (1, 3),
    [[(0.3, 1.2), (0.3, 1.9), (1.1, 1.95), (1.6, 1.22)]],
    1.0,
    lean=0.0,
)
CAR_MODELS = (HATCHBACK, SEDAN, ESTATE, VAN)

_PAINT_COLORS = [
    rgb(198, 28, 32), rgb(232, 232, 234), rgb(40, 42, 50), rgb(150, 156, 164), rgb(34, 74, 160),
    rgb(236, 186, 30), rgb(224, 60, 30), rgb(214, 104, 30), rgb(50, 110, 214), rgb(240, 206, 60),
]  # fmt: skip
_WHEEL = 0.34  # radius in metres
_AXLES = (-1.3, 1.3)
_BLACK = rgb(28, 28, 31)


@dataclass(frozen=True)
class Car:
    """A car at (x, z) in metres, heading ``yaw`` radians to the right of straight ahead."""

    x: float
    z: float
    yaw: float
    model: CarModel
    paint: np.ndarray

    @property
    def depth(self) -> float:
        """Distance of its centre, in metres."""
        return self.z

    def cast_shadow(self, scene: SceneContext) -> None:
        """Darken the ground beside the car and, more strongly, under it."""
        rear, front = self.model.outline[0][0], self.model.outline[-1][0]
        foot = self._to_world([(rear, 0, -1), (front, 0, -1), (front, 0, 1), (rear, 0, 1)])
        dx, dz = scene.light.shadow_direction()
        thrown = foot + np.array([dx, 0, dz]) * 1.2
        sides = [np.array([foot[i], foot[i - 1], thrown[i - 1], thrown[i]]) for i in range(4)]
        polygons = [scene.camera.project(corners) for corners in (foot, thrown, *sides)]
        scene.canvas.shade(polygons, scene.light.shadows)
        scene.canvas.shade(polygons[:1], 0.55)

    def draw(self, scene: SceneContext) -> None:
        """Draw the tyres, then the faces that the camera sees from far to near, then the near side."""
        self._draw_tyres(scene)
        outline = self.model.outline
        faces: list[tuple[float, int, np.ndarray, Vector]] = []
        for edge, ((a0, h0), (a1, h1)) in enumerate(pairwise(outline)):
            strip = self._to_world([(a0, h0, -1), (a1, h1, -1), (a1, h1, 1), (a0, h0, 1)])
            normal = self._direction(h0 - h1, a1 - a0, 0.0)
            middle = strip.mean(axis=0)
            if np.dot(normal, middle - [0, scene.camera.eye, 0]) < 0:
                faces.append((float(middle[2]), edge, strip, normal))
        for _, edge, strip, normal in sorted(faces, key=lambda face: -face[0]):
            scene.draw_face(strip, self.paint, normal, Label.CAR)
            if edge in self.model.glass:
                self._draw_windscreen(scene, edge, normal)
            elif edge == 0:
                self._draw_end(scene, outline[0], outline[1], normal, rear=True)
            elif edge == len(outline) - 2:
                self._draw_end(scene, outline[-1], outline[-2], normal, rear=False)
        self._draw_side(scene)

    def _direction(self, along: float, up: float, aside: float) -> Vector:
        """A direction relative to the car -> a unit vector in the world."""
        sin, cos = float(np.sin(self.yaw)), float(np.cos(self.yaw))
        length = (along * along + up * up + aside * aside) ** 0.5
        return (along * sin + aside * cos) / length, up / length, (along * cos - aside * sin) / length

    def _to_world(self, points: list[tuple[float, float, float]]) -> np.ndarray:
        """Points (along, up, aside), in metres, metres and half widths -> world points, (N, 3)."""
        along, up, aside = np.array(points, np.float64).T
        aside = aside * self.model.half_width * (1 - self.model.lean * np.clip(up - 0.95, 0, 1))
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        return np.stack([self.x + along * sin + aside * cos, up, self.z + along * cos - aside * sin], axis=1)

    def _draw_tyres(self, scene: SceneContext) -> None:
        turn = np.linspace(0, 2 * np.pi, 11)[:-1]
        for along in _AXLES:
            for side in (-1.0, 1.0):
                for inset in (0.7, 0.96):
                    ring = [
                        (along + _WHEEL * np.cos(t), _WHEEL * (1 + np.sin(t)), side * inset) for t in turn
                    ]
                    scene.draw_face(self._to_world(ring), _BLACK, (0, 0, 0), Label.CAR)
                tread = [(along, 0.0, side * 0.7), (along, 0.0, side * 0.96)]
                tread += [(along, _WHEEL, side * 0.96), (along, _WHEEL, side * 0.7)]
                scene.draw_face(self._to_world(tread), _BLACK, (0, 0, 0), Label.CAR)

    def _draw_windscreen(self, scene: SceneContext, edge: int, normal: Vector) -> None:
        low, high = np.array(self.model.outline[edge]), np.array(self.model.outline[edge + 1])
        (a0, h0), (a1, h1) = (low + (high - low) * share for share in (0.1, 0.9))
        pane = self._to_world([(a0, h0, -0.88), (a1, h1, -0.86), (a1, h1, 0.86), (a0, h0, 0.88)])
        _draw_glass(scene, pane, normal)

    def _draw_end(
        self,
        scene: SceneContext,
        foot: tuple[float, float],
        top: tuple[float, float],
        normal: Vector,
        rear: bool,
    ) -> None:
        """Draw bumper, lamps, and the number plate or the grille."""
        along, high = foot[0] * 1.005, top[1]

        def box(low: float, high: float, left: float, right: float) -> np.ndarray:
            return self._to_world(
                [(along, low, left), (along, high, left), (along, high, right), (along, low, right)]
            )

        scene.draw_face(box(0.3, 0.45, -1, 1), self.paint * 0.35, normal)
        lamp = rgb(222, 26, 26) if rear else rgb(255, 250, 224)
        for side in (-1, 1):
            scene.draw_face(box(high - 0.24, high - 0.04, side * 0.95, side * 0.62), lamp, (0.0, 1.0, 0.0))
        if rear:
            scene.draw_face(box(0.5, 0.62, -0.28, 0.28), rgb(238, 238, 226), normal)
        else:
            scene.draw_face(box(0.48, 0.68, -0.5, 0.5), _BLACK, normal)

    def _draw_side(self, scene: SceneContext) -> None:
        right = self._direction(0.0, 0.0, 1.0)
        side = -1.0 if right[0] * self.x + right[2] * self.z > 0 else 1.0
        normal = (right[0] * side, 0.25, right[2] * side)

        def plane(points: Outline) -> np.ndarray:
            return self._to_world([(along, up, side) for along, up in points])

        outline = self.model.outline
        rear, front = outline[0][0], outline[-1][0]
        scene.draw_face(plane(outline), self.paint * 0.92, normal, Label.CAR)
        sill = plane([(rear, 0.3), (front, 0.3), (front, 0.42), (rear, 0.42)])
        scene.draw_face(sill, self.paint * 0.45, normal)
        for window in self.model.windows:
            _draw_glass(scene, plane(window), normal)
        door = plane([(-0.4, 0.45), (-0.36, 0.45), (-0.36, 0.95), (-0.4, 0.95)])
        scene.draw_face(door, self.paint * 0.5, normal)
        turn = np.linspace(0, 2 * np.pi, 17)[:-1]
        for along in _AXLES:
            # The wheel arch is part of the body, so it ends where the body does.
            arch = [(along + 0.42 * np.cos(t), max(_WHEEL + 0.42 * np.sin(t), 0.3)) for t in turn]
            scene.draw_face(plane(arch), self.paint * 0.3, normal)
            for radius, color, label in ((_WHEEL, _BLACK, Label.CAR), (0.2, rgb(176, 178, 184), None)):
                ring = [(along + radius * np.cos(t), _WHEEL + radius * np.sin(t)) for t in turn]
                scene.draw_face(plane(ring), color, normal, label)


def _draw_glass(scene: SceneContext, pane: np.ndarray, normal: Vector) -> None:
    """Draw a dark window, world corners (4, 3), with a reflection along one edge."""
    sky = scene.light.zenith * 0.5 + scene.light.horizon * 0.3
    scene.draw_face(pane, rgb(24, 30, 36) + sky * 0.3, normal)
    shine = [pane[1], pane[1] * 0.7 + pane[2] * 0.3, pane[0] * 0.75 + pane[3] * 0.25, pane[0]]
    scene.draw_face(np.array(shine), rgb(36, 42, 49) + sky * 0.45, normal)


def pick_car(rng: np.random.Generator, x: float, z: float, yaw: float) -> Car:
    """A random car at (x, z)."""
    model = CAR_MODELS[int(rng.choice(len(CAR_MODELS), p=[0.34, 0.28, 0.22, 0.16]))]
    paint = _PAINT_COLORS[int(rng.integers(len(_PAINT_COLORS)))] + rng.uniform(-16, 16, 3)
    return Car(x, z, yaw, model, np.clip(paint, 12, 245))


def pick_crossing_cars(scene: SceneContext, near: float, far: float) -> list[SceneObject]:
    """Random cars in both lanes of a road across the view."""
    rng = scene.rng
    cars: list[SceneObject] = []
    for share, yaw in ((0.28, np.pi / 2), (0.75, -np.pi / 2)):
        z = near + (far - near) * share
        low, high = scene.visible_range(z, margin=1)
        x = low + rng.uniform(0, 7)
        while x < high:
            if rng.random() < 0.6:
                cars.append(pick_car(rng, x, z, yaw + rng.uniform(-0.05, 0.05)))
            x += rng.uniform(6.5, 12)
    return cars
