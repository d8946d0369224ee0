"""The eight classes of the rendered scenes: names, label values and colours.

A class's value in a label image is its place in ``NAMES``, counted from 1. Lamp posts, road signs and fences
are none of the eight and unlabelled.
"""

UNLABELLED = 0
SKY, GROUND, ROAD, WATER, BUILDING, TREE, CAR, PERSON = range(1, 9)

NAMES = ("sky", "ground", "road", "water", "building", "tree", "car", "person")

COLORS = (
    (120, 190, 240),
    (150, 200, 90),
    (110, 110, 120),
    (20, 90, 200),
    (190, 120, 70),
    (20, 120, 50),
    (250, 200, 0),
    (220, 20, 80),
)
