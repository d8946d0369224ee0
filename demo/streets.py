"""Layouts of streets: a road that runs away from the viewer, and a row of houses across the view."""

import numpy as np

from . import ground
from .backdrop import draw_far_wood, draw_hills, draw_sky
from .canvas import Label, rgb
from .car import pick_car, pick_crossing_cars
from .furniture import Post
from .ground import ROAD_PAINT, draw_cross_road
from .house import pick_house
from .person import pick_people, pick_people_count, pick_person
from .plants import pick_tree
from .scene_context import NEAR_PLANE, SceneContext, SceneObject, draw_objects

_STREET_TREES = ("round", "round", "poplar")


def draw_avenue(scene: SceneContext) -> None:
    """Draw houses on one side of the road, and houses, a canal or a park on the other."""
    rng = scene.rng
    middle, half, walk = rng.uniform(-1.6, 1.6), rng.uniform(2.6, 3.2), rng.uniform(2.4, 3.6)
    left, right = middle - half, middle + half
    draw_sky(scene)
    if rng.random() < 0.5:
        draw_hills(scene, scene.canvas.height * rng.uniform(0.06, 0.16), int(rng.integers(1, 3)))
    draw_far_wood(scene, scene.canvas.height * rng.uniform(0.05, 0.09))
    ground.cover(scene, ground.along_strip(-600, 600), ground.meadow(rng), Label.GROUND)
    ground.cover(scene, ground.along_strip(left - walk, right + walk), ground.paving(rng), Label.GROUND)
    ground.cover(scene, ground.along_strip(left, right), ground.asphalt(rng), Label.ROAD)
    _mark_road(scene, left, middle, right)

    other = str(rng.choice(["houses", "canal", "park"], p=[0.36, 0.42, 0.22]))
    uses = ["houses", other] if rng.random() < 0.5 else [other, "houses"]
    objects: list[SceneObject] = []
    for use, side, curb in zip(uses, (-1, 1), (left, right), strict=True):
        edge = curb + side * walk
        if use == "houses":
            objects += _row_of_houses(scene, edge, side)
        elif use == "park":
            for z in np.arange(8, 60, 6.5):
                kinds = ("round", "conifer", "poplar", "bush")
                objects.append(
                    pick_tree(rng, edge + side * rng.uniform(0.5, 8), z + rng.uniform(-2, 2), kinds)
                )
        else:
            _draw_canal(scene, edge, side)
        if rng.random() < 0.75:
            size, start, gap = rng.uniform(0.7, 1.0), rng.uniform(6, 12), rng.uniform(7, 13)
            for z in np.arange(start, 55, gap):
                objects.append(pick_tree(rng, curb + side * 0.7, z, _STREET_TREES, size))
        if rng.random() < 0.4:
            for z in np.arange(rng.uniform(7, 11), 50, 14):
                objects.append(Post(curb + side * 0.45, z, 5.0, -side * 1.4))
    objects += _street_traffic(scene, left, middle, right)
    objects += _walkers(scene, [(left - walk + 0.4, left - 0.4), (right + 0.4, right + walk - 0.4)])
    draw_objects(scene, objects)


def _mark_road(scene: SceneContext, left: float, middle: float, right: float) -> None:
    rng = scene.rng
    for start in np.arange(rng.uniform(1, 4), 60, 4.5):
        ground.paint_marking(
            scene, ground.along_strip(middle - 0.08, middle + 0.08, start, start + 2.2), ROAD_PAINT
        )
    for edge in (left, right):
        ground.paint_marking(scene, ground.along_strip(edge - 0.14, edge + 0.1, far=80), rgb(178, 176, 170))
    if rng.random() < 0.35:
        start = rng.uniform(6, 10)
        for x in np.arange(left + 0.4, right - 0.3, 0.95):
            ground.paint_marking(scene, ground.along_strip(x, x + 0.5, start, start + 2.8), ROAD_PAINT)


def _row_of_houses(scene: SceneContext, edge: float, side: int) -> list[SceneObject]:
    """A row of houses with their fronts at x = ``edge``, left (-1) or right (1) of the street."""
    rng = scene.rng
    row: list[SceneObject] = []
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


def _draw_canal(scene: SceneContext, edge: float, side: int) -> None:
    """Draw water from x = ``edge`` to a far bank, and the trees and houses there, which it reflects."""
    rng = scene.rng
    bank = edge + side * rng.uniform(7, 12)
    behind = _row_of_houses(scene, bank + side * 1.5, side)
    for z in np.arange(9, 50, rng.uniform(7, 12)):
        behind.append(pick_tree(rng, bank + side * 0.7, z, _STREET_TREES))
    draw_objects(scene, behind)
    ground.cover_with_water(scene, ground.along_strip(edge, bank))


def _street_traffic(scene: SceneContext, left: float, middle: float, right: float) -> list[SceneObject]:
    """Cars that drive away in the right lane and approach in the left lane."""
    rng = scene.rng
    cars: list[SceneObject] = []
    for lane, yaw in (((middle + right) / 2, 0.0), ((left + middle) / 2, np.pi)):
        z = rng.uniform(7.5, 12)
        while z < 20:
            if rng.random() < 0.7:
                cars.append(pick_car(rng, lane + rng.uniform(-0.3, 0.3), z, yaw + rng.uniform(-0.04, 0.04)))
            z += rng.uniform(7, 14)
    return cars


def _walkers(scene: SceneContext, walks: list[tuple[float, float]]) -> list[SceneObject]:
    """People on the visible parts of the pavements, each given as its left and right x."""
    rng = scene.rng
    crowd: list[SceneObject] = []
    for _ in range(pick_people_count(scene)):
        z = rng.uniform(4.8, 7.5)
        low, high = scene.visible_range(z, margin=-0.3)
        visible = [(max(a, low), min(b, high)) for a, b in walks if min(b, high) > max(a, low)]
        if visible:
            a, b = visible[int(rng.integers(len(visible)))]
            crowd.append(pick_person(rng, rng.uniform(a, b), z))
    return crowd


def draw_house_row(scene: SceneContext) -> None:
    """Draw houses, pavement, road, and the near pavement with or without water in front of it."""
    rng = scene.rng
    house_front = rng.uniform(11.5, 14)
    far_curb = house_front - rng.uniform(1.8, 2.8)
    near_curb = far_curb - rng.uniform(4.2, 5.4)
    draw_sky(scene)
    if rng.random() < 0.5:
        draw_hills(scene, scene.canvas.height * rng.uniform(0.1, 0.3), int(rng.integers(1, 4)))
    everywhere = ground.across_strip(scene, NEAR_PLANE, ground.GROUND_END)
    ground.cover(scene, everywhere, ground.meadow(rng), Label.GROUND)
    square = ground.across_strip(scene, NEAR_PLANE, house_front)
    ground.cover(scene, square, ground.paving(rng), Label.GROUND)
    draw_cross_road(scene, near_curb, far_curb)

    objects = _facing_houses(scene, house_front)
    objects += pick_crossing_cars(scene, near_curb, far_curb)
    objects += pick_people(scene, int(rng.integers(0, 2)), far_curb + 0.3, house_front - 0.4)
    low, high = scene.visible_range(house_front)
    if rng.random() < 0.55:
        for x in np.arange(low + rng.uniform(0, 4), high, rng.uniform(5, 9)):
            objects.append(pick_tree(rng, x, far_curb + 0.5, _STREET_TREES, 0.75))
    if rng.random() < 0.5:
        quay = near_curb - rng.uniform(1.2, 2.0)
        draw_objects(scene, objects)
        ground.cover_with_water(scene, ground.across_strip(scene, NEAR_PLANE, quay))
        objects = []
    else:
        quay = 4.0
        if rng.random() < 0.4:
            x = float(rng.choice(scene.visible_range(near_curb))) * rng.uniform(0.6, 0.95)
            objects.append(pick_tree(rng, x, near_curb - 0.6, _STREET_TREES, 0.8))
    objects += pick_people(scene, int(rng.integers(1, 4)), quay + 0.4, near_curb - 0.2)
    if rng.random() < 0.4:
        low, high = scene.visible_range(near_curb, margin=-1)
        height, arm = (4.6, 1.2) if rng.random() < 0.5 else (2.4, 0.0)
        objects.append(Post(rng.uniform(low, high), near_curb - 0.3, height, arm))
    draw_objects(scene, objects)


def _facing_houses(scene: SceneContext, front: float) -> list[SceneObject]:
    """A row of houses across the whole view, with trees in some gaps."""
    rng = scene.rng
    row: list[SceneObject] = []
    x, end = scene.visible_range(front, margin=2)
    while x < end:
        width = rng.uniform(4.5, 8.5)
        if rng.random() < 0.16:
            for share in (0.3, 0.75):
                row.append(pick_tree(rng, x + width * share, front + rng.uniform(1, 6), ("round", "conifer")))
        else:
            start = front + rng.uniform(0, 0.8)
            roofs = ("flat", "side", "front", "front")
            row.append(pick_house(rng, (x, x + width), (start, start + 8), rng.uniform(3.4, 8.5), roofs))
        x += width + (rng.uniform(0.6, 2.5) if rng.random() < 0.3 else 0)
    return row
