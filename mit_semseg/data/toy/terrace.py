"""Layout: a row of houses across the street, seen from the other pavement or over the water of a quay."""

import numpy as np

from . import labels, surfaces
from .backdrop import draw_hills, draw_sky
from .building import pick_house
from .crowd import draw_things, lay_cross_road, passing_cars, people
from .furniture import Post
from .plants import pick_tree
from .stage import NEAREST, Stage, Thing

_STREET_TREES = ("round", "round", "poplar")


def draw_terrace(stage: Stage) -> None:
    """Houses, pavement, road, and the near pavement with or without water in front."""
    rng = stage.rng
    house_front = rng.uniform(11.5, 14)
    far_curb = house_front - rng.uniform(1.8, 2.8)
    near_curb = far_curb - rng.uniform(4.2, 5.4)
    draw_sky(stage)
    if rng.random() < 0.5:
        draw_hills(stage, stage.canvas.height * rng.uniform(0.1, 0.3), int(rng.integers(1, 4)))
    everywhere = surfaces.across_strip(stage, NEAREST, surfaces.FARTHEST)
    surfaces.lay(stage, everywhere, surfaces.meadow(rng), labels.GROUND)
    square = surfaces.across_strip(stage, NEAREST, house_front)
    surfaces.lay(stage, square, surfaces.paving(rng), labels.GROUND)
    lay_cross_road(stage, near_curb, far_curb)

    things = _houses(stage, house_front)
    things += passing_cars(stage, near_curb, far_curb)
    things += people(stage, int(rng.integers(0, 2)), far_curb + 0.3, house_front - 0.4)
    low, high = stage.span(house_front)
    if rng.random() < 0.55:
        for x in np.arange(low + rng.uniform(0, 4), high, rng.uniform(5, 9)):
            things.append(pick_tree(rng, x, far_curb + 0.5, _STREET_TREES, 0.75))
    if rng.random() < 0.5:
        quay = near_curb - rng.uniform(1.2, 2.0)
        draw_things(stage, things)
        surfaces.flood(stage, surfaces.across_strip(stage, NEAREST, quay))
        things = []
    else:
        quay = 4.0
        if rng.random() < 0.4:
            x = float(rng.choice(stage.span(near_curb))) * rng.uniform(0.6, 0.95)
            things.append(pick_tree(rng, x, near_curb - 0.6, _STREET_TREES, 0.8))
    things += people(stage, int(rng.integers(1, 4)), quay + 0.4, near_curb - 0.2)
    if rng.random() < 0.4:
        low, high = stage.span(near_curb, margin=-1)
        height, arm = (4.6, 1.2) if rng.random() < 0.5 else (2.4, 0.0)
        things.append(Post(rng.uniform(low, high), near_curb - 0.3, height, arm))
    draw_things(stage, things)


def _houses(stage: Stage, front: float) -> list[Thing]:
    """A row across the whole view, here and there with trees in a gap."""
    rng = stage.rng
    row: list[Thing] = []
    x, end = stage.span(front, margin=2)
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
