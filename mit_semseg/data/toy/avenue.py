"""Layout: a road that runs away from the viewer, between houses, along a canal or a park."""

import numpy as np

from . import labels, surfaces
from .backdrop import draw_far_wood, draw_hills, draw_sky
from .building import pick_house
from .canvas import rgb
from .car import pick_car
from .crowd import ROAD_PAINT, draw_things, few
from .furniture import Post
from .person import pick_person
from .plants import pick_tree
from .stage import Stage, Thing

_STREET_TREES = ("round", "round", "poplar")


def draw_avenue(stage: Stage) -> None:
    """Houses on one side; houses, a canal or a park on the other."""
    rng = stage.rng
    middle, half, walk = rng.uniform(-1.6, 1.6), rng.uniform(2.6, 3.2), rng.uniform(2.4, 3.6)
    left, right = middle - half, middle + half
    draw_sky(stage)
    if rng.random() < 0.5:
        draw_hills(stage, stage.canvas.height * rng.uniform(0.06, 0.16), int(rng.integers(1, 3)))
    draw_far_wood(stage, stage.canvas.height * rng.uniform(0.05, 0.09))
    surfaces.lay(stage, surfaces.along_strip(-600, 600), surfaces.meadow(rng), labels.GROUND)
    surfaces.lay(stage, surfaces.along_strip(left - walk, right + walk), surfaces.paving(rng), labels.GROUND)
    surfaces.lay(stage, surfaces.along_strip(left, right), surfaces.asphalt(rng), labels.ROAD)
    _mark_road(stage, left, middle, right)

    other = str(rng.choice(["houses", "canal", "park"], p=[0.36, 0.42, 0.22]))
    uses = ["houses", other] if rng.random() < 0.5 else [other, "houses"]
    things: list[Thing] = []
    for use, side, curb in zip(uses, (-1, 1), (left, right), strict=True):
        edge = curb + side * walk
        if use == "houses":
            things += _row_of_houses(stage, edge, side)
        elif use == "park":
            for z in np.arange(8, 60, 6.5):
                kinds = ("round", "conifer", "poplar", "bush")
                things.append(
                    pick_tree(rng, edge + side * rng.uniform(0.5, 8), z + rng.uniform(-2, 2), kinds)
                )
        else:
            _dig_canal(stage, edge, side)
        if rng.random() < 0.75:
            size, start, gap = rng.uniform(0.7, 1.0), rng.uniform(6, 12), rng.uniform(7, 13)
            for z in np.arange(start, 55, gap):
                things.append(pick_tree(rng, curb + side * 0.7, z, _STREET_TREES, size))
        if rng.random() < 0.4:
            for z in np.arange(rng.uniform(7, 11), 50, 14):
                things.append(Post(curb + side * 0.45, z, 5.0, -side * 1.4))
    things += _traffic(stage, left, middle, right)
    things += _walkers(stage, [(left - walk + 0.4, left - 0.4), (right + 0.4, right + walk - 0.4)])
    draw_things(stage, things)


def _mark_road(stage: Stage, left: float, middle: float, right: float) -> None:
    rng = stage.rng
    for start in np.arange(rng.uniform(1, 4), 60, 4.5):
        surfaces.mark(
            stage, surfaces.along_strip(middle - 0.08, middle + 0.08, start, start + 2.2), ROAD_PAINT
        )
    for edge in (left, right):
        surfaces.mark(stage, surfaces.along_strip(edge - 0.14, edge + 0.1, far=80), rgb(178, 176, 170))
    if rng.random() < 0.35:
        start = rng.uniform(6, 10)
        for x in np.arange(left + 0.4, right - 0.3, 0.95):
            surfaces.mark(stage, surfaces.along_strip(x, x + 0.5, start, start + 2.8), ROAD_PAINT)


def _row_of_houses(stage: Stage, edge: float, side: int) -> list[Thing]:
    """Houses side by side with their fronts at x = ``edge``, left (-1) or right (1) of the street."""
    rng = stage.rng
    row: list[Thing] = []
    z = rng.uniform(1.5, 9)
    while z < 75:
        length = rng.uniform(6, 11)
        if rng.random() < 0.14:
            row.append(pick_tree(rng, edge + side * 3, z + length / 2, ("round", "conifer")))
        else:
            sides, roofs = (edge, edge + side * rng.uniform(7, 10)), ("flat", "side", "front")
            row.append(pick_house(rng, sides, (z, z + length), rng.uniform(4.5, 11.5), roofs))
        z += length + (rng.uniform(0.5, 3) if rng.random() < 0.3 else 0.05)
    return row


def _dig_canal(stage: Stage, edge: float, side: int) -> None:
    """Water from x = ``edge`` to a far bank with trees and houses, which it mirrors."""
    rng = stage.rng
    bank = edge + side * rng.uniform(7, 12)
    behind = _row_of_houses(stage, bank + side * 1.5, side)
    for z in np.arange(9, 50, rng.uniform(7, 12)):
        behind.append(pick_tree(rng, bank + side * 0.7, z, _STREET_TREES))
    draw_things(stage, behind)
    surfaces.flood(stage, surfaces.along_strip(edge, bank))


def _traffic(stage: Stage, left: float, middle: float, right: float) -> list[Thing]:
    """Cars that drive away on the right lane and come towards the viewer on the left one."""
    rng = stage.rng
    cars: list[Thing] = []
    for lane, yaw in (((middle + right) / 2, 0.0), ((left + middle) / 2, np.pi)):
        z = rng.uniform(7.5, 12)
        while z < 20:
            if rng.random() < 0.7:
                cars.append(pick_car(rng, lane + rng.uniform(-0.3, 0.3), z, yaw + rng.uniform(-0.04, 0.04)))
            z += rng.uniform(7, 14)
    return cars


def _walkers(stage: Stage, walks: list[tuple[float, float]]) -> list[Thing]:
    """People on the pavements, between two x each, where those are in the picture."""
    rng = stage.rng
    crowd: list[Thing] = []
    for _ in range(few(stage)):
        z = rng.uniform(4.8, 7.5)
        low, high = stage.span(z, margin=-0.3)
        spots = [(max(a, low), min(b, high)) for a, b in walks if min(b, high) > max(a, low)]
        if spots:
            a, b = spots[int(rng.integers(len(spots)))]
            crowd.append(pick_person(rng, rng.uniform(a, b), z))
    return crowd
