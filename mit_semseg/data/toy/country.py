"""Layout: a road that winds through fields, farms and trees, often over a river."""

from dataclasses import dataclass

import numpy as np

from . import labels, surfaces
from .backdrop import draw_far_wood, draw_hills, draw_sky
from .building import pick_house
from .car import pick_car
from .crowd import ROAD_PAINT, draw_things, few, people
from .furniture import Fence
from .plants import pick_tree
from .stage import NEAREST, Stage, Thing

_WILD = ("round", "conifer", "conifer", "poplar", "bush")


@dataclass(frozen=True)
class _Bend:
    """A winding road, ``half`` metres wide to each side: how its middle line leaves the straight one."""

    shift: float
    reach: float
    length: float
    half: float

    def middle(self, z: float) -> float:
        return float(self.shift + self.reach * (1 - np.cos(z / self.length)))

    def strip(self, depths: np.ndarray, half: float) -> np.ndarray:
        """Ground points of a strip around its middle line, ``half`` metres to each side."""
        middle = np.array([self.middle(z) for z in depths])
        left, right = (np.stack([middle + side * half, depths], axis=1) for side in (-1, 1))
        return np.concatenate([left, right[::-1]])


def draw_country(stage: Stage) -> None:
    """Fields, the road, farm houses beside it; a river from side to side runs under the road."""
    rng = stage.rng
    draw_sky(stage)
    draw_hills(stage, stage.canvas.height * rng.uniform(0.08, 0.24), int(rng.integers(1, 4)))
    draw_far_wood(stage, stage.canvas.height * rng.uniform(0.05, 0.09))
    everywhere = surfaces.across_strip(stage, NEAREST, surfaces.FARTHEST)
    surfaces.lay(stage, everywhere, surfaces.meadow(rng), labels.GROUND)
    for near in np.cumsum(rng.uniform(5, 30, 4)) + 12:
        if rng.random() < 0.6:
            field = surfaces.across_strip(stage, near, near * 1.4)
            surfaces.lay(stage, field, surfaces.meadow(rng), labels.GROUND)
    road = _Bend(rng.uniform(-2.2, 2.2), rng.uniform(-5, 5), rng.uniform(18, 40), rng.uniform(2.2, 3.0))
    near_bank = rng.uniform(8, 11)
    far_bank = near_bank + rng.uniform(8, 20) if rng.random() < 0.62 else near_bank

    tar, first_dash = surfaces.asphalt(rng), rng.uniform(1, 4)
    _lay_road(stage, road, tar, first_dash, 200.0)
    things = _trees(stage, road, near_bank - 0.5, far_bank + 0.5) + _farms(stage, road, far_bank + 1)
    if far_bank > near_bank:
        draw_things(stage, [thing for thing in things if thing.depth > far_bank])
        things = [thing for thing in things if thing.depth <= far_bank]
        surfaces.flood(stage, surfaces.across_strip(stage, near_bank, far_bank))
        _lay_road(stage, road, tar, first_dash, far_bank)
        things += _railings(road, near_bank, far_bank)
    things += _traffic(stage, road)
    things += people(stage, few(stage), 4.8, 7.2)
    draw_things(stage, things)


def _lay_road(stage: Stage, road: _Bend, tar: surfaces.Material, first_dash: float, far: float) -> None:
    whole = road.strip(np.geomspace(NEAREST, far, 40), road.half)
    surfaces.lay(stage, whole, tar, labels.ROAD)
    for start in np.arange(first_dash, min(far, 70.0), 5):
        surfaces.mark(stage, road.strip(np.linspace(start, start + 2.4, 4), 0.08), ROAD_PAINT)


def _trees(stage: Stage, road: _Bend, near_bank: float, far_bank: float) -> list[Thing]:
    """Trees beside the road and on dry land."""
    rng = stage.rng
    low, high = stage.span(26)
    trees: list[Thing] = []
    for z in rng.uniform(9, 40, 12):
        x = rng.uniform(low, high) * 1.3
        if abs(x - road.middle(z)) > road.half + 1.6 and not near_bank < z < far_bank:
            trees.append(pick_tree(rng, x, z, _WILD))
    return trees


def _farms(stage: Stage, road: _Bend, nearest: float) -> list[Thing]:
    """Houses on either side of the road, no nearer than ``nearest`` metres."""
    rng = stage.rng
    houses: list[Thing] = []
    for side in (-1, 1):
        if rng.random() < 0.65:
            front = max(nearest, rng.uniform(11, 20))
            reach = [road.middle(z) for z in np.linspace(front, front + 8, 5)]
            edge = (max(reach) if side > 0 else min(reach)) + side * (road.half + rng.uniform(1, 3.5))
            sides = (edge, edge + side * rng.uniform(6, 10))
            houses.append(pick_house(rng, sides, (front, front + 8), rng.uniform(3, 5.5), ("side", "front")))
    return houses


def _railings(road: _Bend, near_bank: float, far_bank: float) -> list[Thing]:
    """Short fences where the road meets the river, beside the bridge."""
    fences: list[Thing] = []
    for z in (near_bank, far_bank):
        for side in (-1, 1):
            inner = road.middle(z) + side * (road.half + 0.15)
            left, right = sorted((inner, inner + side * 1.6))
            fences.append(Fence(left, right, z))
    return fences


def _traffic(stage: Stage, road: _Bend) -> list[Thing]:
    """Cars on both lanes that follow the bend."""
    rng = stage.rng
    cars: list[Thing] = []
    z = rng.uniform(7, 10)
    while z < 19:
        if rng.random() < 0.75:
            lane = int(rng.choice([-1, 1]))
            heading = np.arctan(road.middle(z + 0.5) - road.middle(z - 0.5)) + (0.0 if lane > 0 else np.pi)
            cars.append(pick_car(rng, road.middle(z) + lane * road.half / 2, z, float(heading)))
        z += rng.uniform(6, 10)
    return cars
