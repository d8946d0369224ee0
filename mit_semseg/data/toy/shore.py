"""Layouts by the water: a lake among hills, and a coast."""

import numpy as np

from . import labels, surfaces
from .backdrop import draw_far_wood, draw_hills, draw_sky
from .building import pick_house
from .crowd import draw_things, few, lay_cross_road, passing_cars, people
from .plants import pick_tree
from .stage import NEAREST, Stage, Thing

_WILD = ("round", "conifer", "conifer", "poplar", "bush")


def draw_lake(stage: Stage) -> None:
    """Water between meadows, woods, hills and perhaps houses behind it, and mostly a road in front."""
    rng = stage.rng
    draw_sky(stage)
    draw_hills(stage, stage.canvas.height * rng.uniform(0.12, 0.3), int(rng.integers(1, 4)))
    draw_far_wood(stage, stage.canvas.height * rng.uniform(0.04, 0.08))
    everywhere = surfaces.across_strip(stage, NEAREST, surfaces.FARTHEST)
    surfaces.lay(stage, everywhere, surfaces.meadow(rng), labels.GROUND)
    road = _road_depths(stage)
    near, far = road[1] + rng.uniform(1.0, 2.5), rng.uniform(30, 60)
    low, high = stage.span((near * far) ** 0.5)
    center, reach = rng.uniform(low, high) * 0.4, (high - low) * rng.uniform(0.5, 0.9)

    behind: list[Thing] = []
    for z in rng.uniform(far + 1, far + 12, int(rng.integers(3, 9))):
        left, right = stage.span(z)
        behind.append(pick_tree(rng, rng.uniform(left, right), z, _WILD, 1.9))
    if rng.random() < 0.7:
        behind += _hamlet(stage, far + 2)
    draw_things(stage, behind)
    angle = np.linspace(0, 2 * np.pi, 40)[:-1]
    phase = rng.uniform(0, 6, 2)
    wobble = 1 + 0.08 * np.sin(3 * angle + phase[0]) + 0.05 * np.sin(5 * angle + phase[1])
    x, z = (
        center + reach * wobble * np.cos(angle),
        (near + far) / 2 + (far - near) / 2 * wobble * np.sin(angle),
    )
    surfaces.flood(stage, np.stack([x, z], axis=1))

    things: list[Thing] = []
    for z_tree in rng.uniform(near, far * 0.8, 6):
        side = rng.choice([-1, 1])
        across = np.sqrt(max(1 - ((z_tree - (near + far) / 2) / ((far - near) / 2)) ** 2, 0))
        x_tree = center + side * (reach * (across * 1.1 + 0.06) + rng.uniform(0.5, 3))
        things.append(pick_tree(rng, x_tree, z_tree, _WILD))
    things += _lay_foreground(stage, road)
    draw_things(stage, things)


def draw_coast(stage: Stage) -> None:
    """The sea up to the horizon, a beach or a meadow, and mostly a road along it, with a house."""
    rng = stage.rng
    draw_sky(stage)
    road = _road_depths(stage)
    start = road[1] + rng.uniform(1.0, 3)
    beach = surfaces.sand(rng) if rng.random() < 0.7 else surfaces.meadow(rng)
    surfaces.lay(stage, surfaces.across_strip(stage, NEAREST, surfaces.FARTHEST), beach, labels.GROUND)
    if rng.random() < 0.6:
        draw_hills(stage, stage.canvas.height * rng.uniform(0.05, 0.14), 1)
    low, high = stage.span(start, margin=2)
    x = np.linspace(low, high, 24)
    tilt = (x - low) / (high - low) * rng.uniform(-1, 4)
    wave = start + 0.7 * np.sin(x * rng.uniform(0.2, 0.5) + rng.uniform(0, 6)) + tilt
    far_left, far_right = stage.span(3000.0)
    sea = np.concatenate([np.stack([x, wave], axis=1), [[far_right, 3000.0], [far_left, 3000.0]]])
    surfaces.flood(stage, sea)

    things: list[Thing] = []
    edge = float(rng.choice(stage.span(start * 0.9)))
    if rng.random() < 0.75:
        sides, depths = (edge * rng.uniform(0.35, 0.7), edge * 2.2), (road[1] + 0.8, road[1] + 6.8)
        things.append(pick_house(rng, sides, depths, rng.uniform(3, 6), ("flat", "side", "front")))
    for _ in range(int(rng.integers(1, 4))):
        z = road[1] + rng.uniform(0.3, 1.2)
        things.append(pick_tree(rng, edge * rng.uniform(-1.0, 1.0), z, ("round", "poplar", "bush"), 0.75))
    things += _lay_foreground(stage, road)
    draw_things(stage, things)


def _road_depths(stage: Stage) -> tuple[float, float]:
    """Near and far edge of the road in front of the water; the same depth twice where there is none."""
    near = stage.rng.uniform(6.0, 7.4)
    return near, near + (stage.rng.uniform(3.2, 4.4) if stage.rng.random() < 0.75 else 0.0)


def _hamlet(stage: Stage, front: float) -> list[Thing]:
    """One to three large houses on the far shore."""
    rng = stage.rng
    low, high = stage.span(front)
    left = rng.uniform(low, high * 0.6)
    houses: list[Thing] = []
    for _ in range(int(rng.integers(1, 4))):
        width = rng.uniform(9, 15)
        height = rng.uniform(4.2, 7.5)
        houses.append(pick_house(rng, (left, left + width), (front, front + 7), height, ("side", "front")))
        left += width + rng.uniform(1, 6)
    return houses


def _lay_foreground(stage: Stage, road: tuple[float, float]) -> list[Thing]:
    """The road, its cars, people between the viewer and it, sometimes a plant at the picture's edge."""
    rng = stage.rng
    near, far = road
    things: list[Thing] = []
    if far > near:
        lay_cross_road(stage, near, far)
        things += passing_cars(stage, near, far)
    things += people(stage, few(stage), 4.7, near - 0.2)
    if rng.random() < 0.35:
        z = rng.uniform(5, near - 0.2)
        x = float(rng.choice(stage.span(z))) * rng.uniform(0.6, 1.0)
        things.append(pick_tree(rng, x, z, ("bush", "round"), 0.7))
    return things
