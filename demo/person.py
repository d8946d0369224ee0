"""People: head, hair, torso, arms and legs in a walking or standing pose."""

from dataclasses import dataclass

import numpy as np

from .canvas import Color, Label, rgb
from .scene_context import SceneContext, SceneObject, upright_shadow

Point = tuple[float, float]

_BREADTH = 1.35  # broader than real people, so that they are a few pixels wide in small pictures


@dataclass(frozen=True)
class Person:
    """A person at (x, z) in metres.

    Attributes:
        height: in metres.
        stride: angle between each leg and the vertical, in radians; near 0 when standing.
        heading: -1 walks left, 1 walks right, 0 faces the camera or away from it.
        away: whether the person faces away from the camera.
        dress: "trousers", "skirt" or "coat".
        bag: whether the person wears a backpack.
    """

    x: float
    z: float
    height: float
    stride: float
    heading: int
    away: bool
    dress: str
    bag: bool
    top: np.ndarray
    bottom: np.ndarray
    skin: np.ndarray
    hair: np.ndarray

    @property
    def depth(self) -> float:
        """Distance, in metres."""
        return self.z

    def cast_shadow(self, scene: SceneContext) -> None:
        """Darken the ground beside the feet, in the shape of the shadow."""
        scene.canvas.shade([upright_shadow(scene, self.x, self.z, 0.5, self.height)], scene.light.shadows)

    def draw(self, scene: SceneContext) -> None:
        """Draw from back to front: far arm, legs, torso, clothes, near arm, head."""
        painter = _BodyPainter(scene, self)
        side_on = self.heading != 0
        shoulder, hip = (0.16, 0.14) if side_on else (0.24, 0.18)
        turn = self.heading or 1
        swing = float(np.sin(self.stride)) * 0.55 * turn
        far, near = ((0.0, -swing), (0.0, swing)) if side_on else ((-shoulder, -0.08), (shoulder, 0.08))
        self._draw_legs(painter)
        self._draw_arm(painter, far, shade=0.7 if side_on else 0.95)
        strap = np.clip(self.bottom * 0.6 + 50, 0, 255)
        if self.bag and side_on:
            points = [(0.1, 1.42), (0.34, 1.36), (0.34, 1.02), (0.1, 1.0)]
            painter.patch([(-turn * x, y) for x, y in points], strap)
        painter.limb([(0, 1.44), (0, 1.52)], 0.12, self.skin * 0.85)
        painter.patch(
            [(-shoulder, 1.42), (-0.06, 1.49), (0.06, 1.49), (shoulder, 1.42), (hip, 0.86), (-hip, 0.86)],
            self.top,
        )
        shady = -1 if scene.light.sun[0] > 0 else 1
        points = [(shoulder, 1.42), (0.05, 1.45), (0.06, 0.86), (hip, 0.86)]
        painter.patch([(shady * x, y) for x, y in points], self.top * 0.8)
        if self.dress == "skirt":
            painter.patch([(-hip, 0.95), (hip, 0.95), (hip + 0.14, 0.5), (-hip - 0.14, 0.5)], self.bottom)
        elif self.dress == "coat":
            painter.patch(
                [(-hip, 0.95), (hip, 0.95), (hip + 0.08, 0.48), (-hip - 0.08, 0.48)], self.top * 0.94
            )
        if self.bag and self.away:
            painter.patch([(-0.17, 1.4), (0.17, 1.4), (0.18, 0.98), (-0.18, 0.98)], strap)
        self._draw_arm(painter, near, shade=1.05)
        self._draw_head(painter)

    def _draw_legs(self, painter: "_BodyPainter") -> None:
        reach, lift = float(np.sin(self.stride)) * 0.8, 0.06 * abs(float(np.sin(self.stride)))
        color = self.bottom if self.dress == "trousers" else self.skin
        for sign, shade in ((-1, 0.72), (1, 1.0)):
            if self.heading:
                hip, foot = (0.0, 0.86), (sign * reach, 0.05 + lift * (sign != self.heading))
            else:
                hip, foot = (sign * 0.09, 0.86), (sign * (0.1 + 0.1 * reach), 0.05 + lift * (sign > 0))
            knee = ((hip[0] + foot[0]) / 2 + 0.05 * self.heading, 0.47)
            painter.limb([hip, knee], 0.18, color * shade)
            painter.limb([knee, foot], 0.14, color * shade)
            painter.limb([foot, (foot[0] + 0.12 * self.heading, 0.04)], 0.1, rgb(44, 36, 34))

    def _draw_arm(self, painter: "_BodyPainter", offset: Point, shade: float) -> None:
        """Draw an arm; ``offset`` is the shoulder's position aside and the swing of the hand, in metres."""
        start, drift = offset
        elbow, hand = (start + drift * 0.55, 1.14), (start + drift + 0.06 * self.heading, 0.9)
        painter.limb([(start, 1.38), elbow], 0.12, self.top * shade)
        painter.limb([elbow, hand], 0.105, self.top * shade)
        painter.limb([hand, (hand[0], 0.87)], 0.1, self.skin)

    def _draw_head(self, painter: "_BodyPainter") -> None:
        painter.ball((0.02 * self.heading, 1.615), (0.105, 0.135), self.skin)
        painter.ball((-0.02 * self.heading, 1.675), (0.112, 0.085), self.hair)
        if self.away:
            painter.ball((0.0, 1.63), (0.105, 0.12), self.hair)
        elif self.heading:
            painter.ball((-0.06 * self.heading, 1.63), (0.055, 0.1), self.hair)


class _BodyPainter:
    """Draws body parts, given as (aside, up) in metres for a height of 1.75 m."""

    def __init__(self, scene: SceneContext, person: Person) -> None:
        self._scene = scene
        self._size = person.height / 1.75
        self._x, self._z = person.x, person.z
        self._scale = scene.camera.focal / person.z * self._size
        self._normal = (0.3 if scene.light.sun[0] > 0 else -0.3, 0.5, -0.7)

    def limb(self, points: list[Point], width: float, color: np.ndarray) -> None:
        self._scene.canvas.line(
            self._pixels(points), width * _BREADTH * self._scale, self._color(color), Label.PERSON
        )

    def patch(self, points: list[Point], color: np.ndarray) -> None:
        self._scene.canvas.polygon(self._pixels(points), self._color(color), Label.PERSON)

    def ball(self, point: Point, radii: Point, color: np.ndarray) -> None:
        ((x, y),) = self._pixels([point]).tolist()
        rx, ry = radii
        self._scene.canvas.ellipse(
            x, y, rx * (1 + _BREADTH) / 2 * self._scale, ry * self._scale, self._color(color), Label.PERSON
        )

    def _pixels(self, points: list[Point]) -> np.ndarray:
        world = [(self._x + aside * _BREADTH * self._size, up * self._size, self._z) for aside, up in points]
        return self._scene.camera.project(np.array(world))

    def _color(self, color: np.ndarray) -> Color:
        return self._scene.light.shaded_color(color, self._z, self._normal)


def pick_person(rng: np.random.Generator, x: float, z: float) -> Person:
    """A random person at (x, z)."""
    heading = int(rng.choice([-1, 0, 1], p=[0.35, 0.3, 0.35]))
    darkness = rng.uniform(0, 1)
    hair = rgb(60, 42, 30)
    if rng.random() < 0.5:
        hair = hair + rng.uniform(-0.4, 1) * rgb(110, 90, 50)
    return Person(
        x=x,
        z=z,
        height=rng.uniform(1.55, 1.9) if rng.random() < 0.85 else rng.uniform(1.2, 1.4),
        stride=rng.uniform(0.25, 0.5) if rng.random() < 0.65 else 0.06,
        heading=heading,
        away=bool(heading == 0 and rng.random() < 0.5),
        dress=str(rng.choice(["trousers", "skirt", "coat"], p=[0.6, 0.2, 0.2])),
        bag=bool(rng.random() < 0.3),
        top=_cloth(rng),
        bottom=_cloth(rng) * rng.uniform(0.45, 0.8),
        skin=rgb(234, 190, 160) * (1 - darkness) + rgb(110, 74, 52) * darkness,
        hair=np.clip(hair, 14, 230),
    )


def _cloth(rng: np.random.Generator) -> np.ndarray:
    """A strong colour from violet to crimson, which is rare in the rest of a scene."""
    hue = rng.uniform(4.3, 5.7)  # of 6 around the circle, where 4 is blue and 6 is red
    pure = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    strength = rng.uniform(0.55, 0.95)
    return (1 - strength + strength * pure) * rng.uniform(150, 250)


def pick_people(scene: SceneContext, count: int, near: float, far: float) -> list[SceneObject]:
    """``count`` random people between two depths, over the whole width of the view."""
    rng = scene.rng
    crowd: list[SceneObject] = []
    for _ in range(count):
        z = rng.uniform(near, max(far, near + 0.1))
        low, high = scene.visible_range(z, margin=-0.3)
        crowd.append(pick_person(rng, rng.uniform(low, high), z))
    return crowd


def pick_people_count(scene: SceneContext) -> int:
    """A random number of people, mostly one to three."""
    return int(scene.rng.choice(5, p=[0.06, 0.22, 0.3, 0.25, 0.17]))
