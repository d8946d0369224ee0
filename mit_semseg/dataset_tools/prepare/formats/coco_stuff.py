"""COCO-Stuff 164k: train2017/*.jpg, val2017/*.jpg, and stuffthingmaps_trainval2017/{train2017,val2017}/*.png.

The maps hold COCO's category id minus 1, so 0 to 181, and 255 for unlabelled. Eleven of COCO's first 91 ids
were never labelled; without them, 171 classes remain. Source: labels.txt of nightrome/cocostuff.
"""

import re

import numpy as np

from ....data.classes import ClassTable, palette
from ..labels import IndexLabels
from ..pairing import join
from ..release import TRAINING, VALIDATION, PrepareOptions, Release
from ..source import SourceFolder

_THINGS = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, street
sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
hat, backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball,
kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, plate, wine glass, cup,
fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake,
chair, couch, potted plant, bed, mirror, dining table, window, desk, toilet, door, tv, laptop, mouse,
remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, blender, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush, hair brush
"""
_STUFF = """
banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other,
ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence,
floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit,
furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss,
mountain, mud, napkin, net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing,
railroad, river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other,
stairs, stone, straw, structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick,
wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops,
window-blind, window-other, wood
"""
_UNUSED = (
    *("street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door"),
    *("blender", "hair brush"),
)
_UNLABELLED = 255
NAMES = tuple(" ".join(name.split()) for name in f"{_THINGS}, {_STUFF}".split(","))  # by value

_FILE = re.compile(r"(?:.*/)?(train|val)2017/(\d+)\.(jpg|jpeg|png)", re.IGNORECASE)


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The 171 classes in the order of their ids, without gaps."""
    members = source.members
    images: dict[tuple[str, str], str] = {}
    labels: dict[tuple[str, str], str] = {}
    for member in members:
        match = _FILE.fullmatch(member)
        if match:
            split = TRAINING if match[1].lower() == "train" else VALIDATION
            (labels if match[3].lower() == "png" else images)[split, match[2]] = member
    if not images.keys() & labels.keys():
        wanted = "train2017/*.jpg or val2017/*.jpg with stuffthingmaps_trainval2017/train2017/*.png"
        raise source.nothing_found(wanted)
    pairing = join(source, images, labels, "stuff map")
    names = tuple(name for name in NAMES if name not in _UNUSED)
    number = {name: k for k, name in enumerate(names, 1)}
    colors = palette(len(NAMES))
    used = np.array([name in number for name in NAMES])
    return Release(
        pairing.pairs,
        IndexLabels(),
        coding={
            _UNLABELLED: 0,
            **{value: number[name] for value, name in enumerate(NAMES) if name in number},
        },
        classes=ClassTable(names, colors[used]),
        values={value: (name, tuple(colors[value].tolist())) for value, name in enumerate(NAMES)},
        notes=pairing.notes,
        problems=pairing.problems,
    )
