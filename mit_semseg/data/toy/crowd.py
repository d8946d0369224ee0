"""What several layouts are filled with: a road across the view, cars, people; and the order to draw in."""

import numpy as np

from . import labels, surfaces
from .canvas import rgb
from .car import pick_car
from .person import pick_person
from .stage import Stage, Thing

ROAD_PAINT = rgb(226, 226, 220)


def draw_things(stage: Stage, things: list[Thing]) -> None:
    """All shadows first, then the things from far to near."""
    for thing in things:
        thing.cast_shadow(stage)
    for thing in sorted(things, key=lambda thing: -thing.depth):
        thing.draw(stage)


def lay_cross_road(stage: Stage, near: float, far: float) -> None:
    """A road across the view between two depths, with a dashed line in its middle."""
    surfaces.lay(stage, surfaces.across_strip(stage, near, far), surfaces.asphalt(stage.rng), labels.ROAD)
    center = (near + far) / 2
    low, high = stage.span(center, margin=2)
    for x in np.arange(low - stage.rng.uniform(0, 3), high, 3.6):
        dash = [[x, center - 0.09], [x + 1.9, center - 0.09], [x + 1.9, center + 0.09], [x, center + 0.09]]
        surfaces.mark(stage, np.array(dash), ROAD_PAINT)


def passing_cars(stage: Stage, near: float, far: float) -> list[Thing]:
    """Cars on both lanes of a road across the view."""
    rng = stage.rng
    cars: list[Thing] = []
    for share, yaw in ((0.28, np.pi / 2), (0.75, -np.pi / 2)):
        z = near + (far - near) * share
        low, high = stage.span(z, margin=1)
        x = low + rng.uniform(0, 7)
        while x < high:
            if rng.random() < 0.6:
                cars.append(pick_car(rng, x, z, yaw + rng.uniform(-0.05, 0.05)))
            x += rng.uniform(6.5, 12)
    return cars


def people(stage: Stage, count: int, near: float, far: float) -> list[Thing]:
    """``count`` people between two depths, all across the view."""
    rng = stage.rng
    crowd: list[Thing] = []
    for _ in range(count):
        z = rng.uniform(near, max(far, near + 0.1))
        low, high = stage.span(z, margin=-0.3)
        crowd.append(pick_person(rng, rng.uniform(low, high), z))
    return crowd


def few(stage: Stage) -> int:
    """How many people there are: mostly one to three."""
    return int(stage.rng.choice(5, p=[0.06, 0.22, 0.3, 0.25, 0.17]))
