"""Layouts of landscapes: a lake among hills, a coast, and a country road through fields."""

from dataclasses import dataclass

import numpy as np

from . import ground
from .backdrop import draw_far_wood, draw_hills, draw_sky
from .canvas import Label
from .car import pick_car, pick_crossing_cars
from .furniture import Fence
from .ground import ROAD_PAINT, draw_cross_road
from .house import pick_house
from .person import pick_people, pick_people_count
from .plants import pick_tree
from .scene_context import NEAR_PLANE, SceneContext, SceneObject, draw_objects

_WILD = ("round", "conifer", "conifer", "poplar", "bush")


def draw_lake(scene: SceneContext) -> None:
    """Draw a lake among meadows and hills, sometimes with houses behind it, mostly with a road in front."""
    rng = scene.rng
    draw_sky(scene)
    draw_hills(scene, scene.canvas.height * rng.uniform(0.12, 0.3), int(rng.integers(1, 4)))
    draw_far_wood(scene, scene.canvas.height * rng.uniform(0.04, 0.08))
    everywhere = ground.across_strip(scene, NEAR_PLANE, ground.GROUND_END)
    ground.cover(scene, everywhere, ground.meadow(rng), Label.GROUND)
    road = _road_depths(scene)
    near, far = road[1] + rng.uniform(1.0, 2.5), rng.uniform(30, 60)
    low, high = scene.visible_range((near * far) ** 0.5)
    center, reach = rng.uniform(low, high) * 0.4, (high - low) * rng.uniform(0.5, 0.9)

    behind: list[SceneObject] = []
    for z in rng.uniform(far + 1, far + 12, int(rng.integers(3, 9))):
        left, right = scene.visible_range(z)
        behind.append(pick_tree(rng, rng.uniform(left, right), z, _WILD, 1.9))
    if rng.random() < 0.7:
        behind += _hamlet(scene, far + 2)
    draw_objects(scene, behind)
    angle = np.linspace(0, 2 * np.pi, 40)[:-1]
    phase = rng.uniform(0, 6, 2)
    wobble = 1 + 0.08 * np.sin(3 * angle + phase[0]) + 0.05 * np.sin(5 * angle + phase[1])
    x, z = (
        center + reach * wobble * np.cos(angle),
        (near + far) / 2 + (far - near) / 2 * wobble * np.sin(angle),
    )
    ground.cover_with_water(scene, np.stack([x, z], axis=1))

    objects: list[SceneObject] = []
    for z_tree in rng.uniform(near, far * 0.8, 6):
        side = rng.choice([-1, 1])
        across = np.sqrt(max(1 - ((z_tree - (near + far) / 2) / ((far - near) / 2)) ** 2, 0))
        x_tree = center + side * (reach * (across * 1.1 + 0.06) + rng.uniform(0.5, 3))
        objects.append(pick_tree(rng, x_tree, z_tree, _WILD))
    objects += _draw_foreground(scene, road)
    draw_objects(scene, objects)


def draw_coast(scene: SceneContext) -> None:
    """Draw the sea up to the horizon, a beach or a meadow, and mostly a road and a house."""
    rng = scene.rng
    draw_sky(scene)
    road = _road_depths(scene)
    start = road[1] + rng.uniform(1.0, 3)
    beach = ground.sand(rng) if rng.random() < 0.7 else ground.meadow(rng)
    ground.cover(scene, ground.across_strip(scene, NEAR_PLANE, ground.GROUND_END), beach, Label.GROUND)
    if rng.random() < 0.6:
        draw_hills(scene, scene.canvas.height * rng.uniform(0.05, 0.14), 1)
    low, high = scene.visible_range(start, margin=2)
    x = np.linspace(low, high, 24)
    tilt = (x - low) / (high - low) * rng.uniform(-1, 4)
    wave = start + 0.7 * np.sin(x * rng.uniform(0.2, 0.5) + rng.uniform(0, 6)) + tilt
    far_left, far_right = scene.visible_range(3000.0)
    sea = np.concatenate([np.stack([x, wave], axis=1), [[far_right, 3000.0], [far_left, 3000.0]]])
    ground.cover_with_water(scene, sea)

    objects: list[SceneObject] = []
    edge = float(rng.choice(scene.visible_range(start * 0.9)))
    if rng.random() < 0.75:
        sides, depths = (edge * rng.uniform(0.35, 0.7), edge * 2.2), (road[1] + 0.8, road[1] + 6.8)
        objects.append(pick_house(rng, sides, depths, rng.uniform(3, 6), ("flat", "side", "front")))
    for _ in range(int(rng.integers(1, 4))):
        z = road[1] + rng.uniform(0.3, 1.2)
        objects.append(pick_tree(rng, edge * rng.uniform(-1.0, 1.0), z, ("round", "poplar", "bush"), 0.75))
    objects += _draw_foreground(scene, road)
    draw_objects(scene, objects)


def _road_depths(scene: SceneContext) -> tuple[float, float]:
    """Depths of the near and the far edge of the road before the water; equal without a road."""
    near = scene.rng.uniform(6.0, 7.4)
    return near, near + (scene.rng.uniform(3.2, 4.4) if scene.rng.random() < 0.75 else 0.0)


def _hamlet(scene: SceneContext, front: float) -> list[SceneObject]:
    """One to three large houses on the far shore."""
    rng = scene.rng
    low, high = scene.visible_range(front)
    left = rng.uniform(low, high * 0.6)
    houses: list[SceneObject] = []
    for _ in range(int(rng.integers(1, 4))):
        width = rng.uniform(9, 15)
        height = rng.uniform(4.2, 7.5)
        houses.append(pick_house(rng, (left, left + width), (front, front + 7), height, ("side", "front")))
        left += width + rng.uniform(1, 6)
    return houses


def _draw_foreground(scene: SceneContext, road: tuple[float, float]) -> list[SceneObject]:
    """Draw the road. Return its cars, people in front of it, and sometimes a plant near a picture edge."""
    rng = scene.rng
    near, far = road
    objects: list[SceneObject] = []
    if far > near:
        draw_cross_road(scene, near, far)
        objects += pick_crossing_cars(scene, near, far)
    objects += pick_people(scene, pick_people_count(scene), 4.7, near - 0.2)
    if rng.random() < 0.35:
        z = rng.uniform(5, near - 0.2)
        x = float(rng.choice(scene.visible_range(z))) * rng.uniform(0.6, 1.0)
        objects.append(pick_tree(rng, x, z, ("bush", "round"), 0.7))
    return objects


@dataclass(frozen=True)
class _WindingRoad:
    """A winding road whose centre line is a cosine, ``half`` metres wide on each side. All in metres."""

    shift: float
    reach: float
    length: float
    half: float

    def middle(self, z: float) -> float:
        return float(self.shift + self.reach * (1 - np.cos(z / self.length)))

    def strip(self, depths: np.ndarray, half: float) -> np.ndarray:
        """Ground points (N, 2) of a strip around the centre line, ``half`` metres wide on each side."""
        middle = np.array([self.middle(z) for z in depths])
        left, right = (np.stack([middle + side * half, depths], axis=1) for side in (-1, 1))
        return np.concatenate([left, right[::-1]])


def draw_country(scene: SceneContext) -> None:
    """Draw fields and a winding road with farm houses, often with a river across that the road bridges."""
    rng = scene.rng
    draw_sky(scene)
    draw_hills(scene, scene.canvas.height * rng.uniform(0.08, 0.24), int(rng.integers(1, 4)))
    draw_far_wood(scene, scene.canvas.height * rng.uniform(0.05, 0.09))
    everywhere = ground.across_strip(scene, NEAR_PLANE, ground.GROUND_END)
    ground.cover(scene, everywhere, ground.meadow(rng), Label.GROUND)
    for near in np.cumsum(rng.uniform(5, 30, 4)) + 12:
        if rng.random() < 0.6:
            field = ground.across_strip(scene, near, near * 1.4)
            ground.cover(scene, field, ground.meadow(rng), Label.GROUND)
    road = _WindingRoad(
        rng.uniform(-2.2, 2.2), rng.uniform(-5, 5), rng.uniform(18, 40), rng.uniform(2.2, 3.0)
    )
    near_bank = rng.uniform(8, 11)
    far_bank = near_bank + rng.uniform(8, 20) if rng.random() < 0.62 else near_bank

    tar, first_dash = ground.asphalt(rng), rng.uniform(1, 4)
    _draw_winding_road(scene, road, tar, first_dash, 200.0)
    objects = _trees(scene, road, near_bank - 0.5, far_bank + 0.5) + _farms(scene, road, far_bank + 1)
    if far_bank > near_bank:
        draw_objects(scene, [obj for obj in objects if obj.depth > far_bank])
        objects = [obj for obj in objects if obj.depth <= far_bank]
        ground.cover_with_water(scene, ground.across_strip(scene, near_bank, far_bank))
        _draw_winding_road(scene, road, tar, first_dash, far_bank)
        objects += _railings(road, near_bank, far_bank)
    objects += _country_traffic(scene, road)
    objects += pick_people(scene, pick_people_count(scene), 4.8, 7.2)
    draw_objects(scene, objects)


def _draw_winding_road(
    scene: SceneContext, road: _WindingRoad, tar: ground.Material, first_dash: float, far: float
) -> None:
    whole = road.strip(np.geomspace(NEAR_PLANE, far, 40), road.half)
    ground.cover(scene, whole, tar, Label.ROAD)
    for start in np.arange(first_dash, min(far, 70.0), 5):
        ground.paint_marking(scene, road.strip(np.linspace(start, start + 2.4, 4), 0.08), ROAD_PAINT)


def _trees(scene: SceneContext, road: _WindingRoad, near_bank: float, far_bank: float) -> list[SceneObject]:
    """Trees on dry land beside the road."""
    rng = scene.rng
    low, high = scene.visible_range(26)
    trees: list[SceneObject] = []
    for z in rng.uniform(9, 40, 12):
        x = rng.uniform(low, high) * 1.3
        if abs(x - road.middle(z)) > road.half + 1.6 and not near_bank < z < far_bank:
            trees.append(pick_tree(rng, x, z, _WILD))
    return trees


def _farms(scene: SceneContext, road: _WindingRoad, nearest: float) -> list[SceneObject]:
    """Houses on either side of the road, at least ``nearest`` metres away."""
    rng = scene.rng
    houses: list[SceneObject] = []
    for side in (-1, 1):
        if rng.random() < 0.65:
            front = max(nearest, rng.uniform(11, 20))
            reach = [road.middle(z) for z in np.linspace(front, front + 8, 5)]
            edge = (max(reach) if side > 0 else min(reach)) + side * (road.half + rng.uniform(1, 3.5))
            sides = (edge, edge + side * rng.uniform(6, 10))
            houses.append(pick_house(rng, sides, (front, front + 8), rng.uniform(3, 5.5), ("side", "front")))
    return houses


def _railings(road: _WindingRoad, near_bank: float, far_bank: float) -> list[SceneObject]:
    """Short fences where the road meets the river, beside the bridge."""
    fences: list[SceneObject] = []
    for z in (near_bank, far_bank):
        for side in (-1, 1):
            inner = road.middle(z) + side * (road.half + 0.15)
            left, right = sorted((inner, inner + side * 1.6))
            fences.append(Fence(left, right, z))
    return fences


def _country_traffic(scene: SceneContext, road: _WindingRoad) -> list[SceneObject]:
    """Cars in both lanes, turned as the road is."""
    rng = scene.rng
    cars: list[SceneObject] = []
    z = rng.uniform(7, 10)
    while z < 19:
        if rng.random() < 0.75:
            lane = int(rng.choice([-1, 1]))
            heading = np.arctan(road.middle(z + 0.5) - road.middle(z - 0.5)) + (0.0 if lane > 0 else np.pi)
            cars.append(pick_car(rng, road.middle(z) + lane * road.half / 2, z, float(heading)))
        z += rng.uniform(6, 10)
    return cars
