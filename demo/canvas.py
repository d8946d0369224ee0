"""A picture and its labels, drawn together so that their edges agree; the classes, and noise for textures."""

from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]


class Label(IntEnum):
    """Values in a label image. Lamp posts, road signs and fences belong to no class and are unlabelled."""

    UNLABELLED = 0
    SKY = 1
    GROUND = 2
    ROAD = 3
    WATER = 4
    BUILDING = 5
    TREE = 6
    CAR = 7
    PERSON = 8


NAMES = tuple(label.name.lower() for label in Label if label != Label.UNLABELLED)
"""Names of the classes in the order of their values."""

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
"""Palette of the classes, RGB, in the order of ``NAMES``."""

SCALE = 3
"""Samples per pixel along each axis. The picture averages them; the label takes the middle one."""


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """A colour as float64 (3,), 0 to 255, for computations."""
    return np.array([red, green, blue], np.float64)


def pillow_color(values: np.ndarray) -> Color:
    """Float colour -> the integers that Pillow takes."""
    red, green, blue = np.clip(np.rint(values), 0, 255).astype(int).tolist()
    return red, green, blue


class Canvas:
    """An RGB picture and a label map, drawn at SCALE times their final size.

    Positions are in final pixels, y downwards. ``label`` None keeps the labels, for example for window panes
    and other details on an object that is already labelled.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._image = Image.new("RGB", (width * SCALE, height * SCALE))
        self._label = Image.new("L", self._image.size)
        self._image_draw = ImageDraw.Draw(self._image)
        self._label_draw = ImageDraw.Draw(self._label)

    def polygon(self, points: Iterable[Sequence[float]], color: Color, label: int | None = None) -> None:
        """Fill the polygon with corners ``points``, each (x, y)."""
        corners = [(x * SCALE, y * SCALE) for x, y in points]
        self._image_draw.polygon(corners, fill=color)
        if label is not None:
            self._label_draw.polygon(corners, fill=label)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, color: Color, label: int | None = None
    ) -> None:
        """Fill the ellipse around (x, y) with radii (rx, ry)."""
        box = [(x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE]
        self._image_draw.ellipse(box, fill=color)
        if label is not None:
            self._label_draw.ellipse(box, fill=label)

    def line(self, points: np.ndarray, thickness: float, color: Color, label: int | None = None) -> None:
        """Draw a line through ``points``, (N, 2), ``thickness`` pixels wide, with round joints and ends."""
        scaled = np.asarray(points) * SCALE
        flat = scaled.ravel().tolist()
        stroke = max(1, round(thickness * SCALE))
        radius = stroke / 2
        for draw, fill in ((self._image_draw, color), (self._label_draw, label)):
            if fill is None:
                continue
            draw.line(flat, fill=fill, width=stroke)
            if stroke > 2:
                for x, y in scaled.tolist():
                    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)

    def paint(self, points: np.ndarray, texture: np.ndarray, label: int) -> None:
        """Fill a polygon with the part of ``texture``, uint8 (height, width, 3), at the same position.

        A texture may have fewer rows than the picture if the polygon ends above its last row.
        """
        stencil, left, top = self._stencil([points], 255)
        if stencil is not None:
            self._paste(texture, stencil, left, top, label)

    def paint_mask(self, samples: np.ndarray, texture: np.ndarray, label: int) -> None:
        """Fill a mask from :meth:`coverage` with ``texture``, uint8 (height, width, 3)."""
        self._paste(texture, Image.fromarray(samples.astype(np.uint8) * 255), 0, 0, label)

    def coverage(self, points: np.ndarray) -> np.ndarray:
        """The samples that a polygon covers: bool (height * SCALE, width * SCALE)."""
        covered = np.zeros((self._label.height, self._label.width), bool)
        stencil, left, top = self._stencil([points], 255)
        if stencil is not None:
            covered[top : top + stencil.height, left : left + stencil.width] = np.asarray(stencil) > 0
        return covered

    def shade(self, polygons: Sequence[np.ndarray], strength: float, color: Color = (12, 16, 34)) -> None:
        """Blend ``color`` over the union of polygons, with ``strength`` from 0 to 1. Keeps the labels."""
        stencil, left, top = self._stencil(polygons, round(255 * strength))
        if stencil is not None:
            self._image.paste(color, (left, top, left + stencil.width, top + stencil.height), stencil)

    def stamp(self, patch: np.ndarray, mask: np.ndarray, left: int, top: int, label: int) -> None:
        """Draw ``patch``, uint8 (h, w, 3), where ``mask``, bool (h, w), is true: all in samples."""
        stencil = Image.fromarray(mask.astype(np.uint8) * 255)
        self._image.paste(Image.fromarray(patch), (left, top), stencil)
        self._label.paste(label, (left, top, left + mask.shape[1], top + mask.shape[0]), stencil)

    def picture(self) -> np.ndarray:
        """The picture so far at final size: uint8 (height, width, 3)."""
        return np.asarray(self._image.reduce(SCALE))

    def labels(self) -> np.ndarray:
        """The labels so far at final size: uint8 (height, width)."""
        middle = SCALE // 2
        return np.asarray(self._label)[middle::SCALE, middle::SCALE].copy()

    def _paste(self, texture: np.ndarray, stencil: Image.Image, left: int, top: int, label: int) -> None:
        right, bottom = left + stencil.width, min(top + stencil.height, len(texture) * SCALE)
        stencil = stencil.crop((0, 0, right - left, bottom - top))
        part = (left / SCALE, top / SCALE, right / SCALE, bottom / SCALE)
        enlarged = Image.fromarray(texture).resize(stencil.size, Image.Resampling.BILINEAR, box=part)
        self._image.paste(enlarged, (left, top), stencil)
        self._label.paste(label, (left, top, right, bottom), stencil)

    def _stencil(self, polygons: Sequence[np.ndarray], value: int) -> tuple[Image.Image | None, int, int]:
        """Union of polygons as (mask, left, top), cropped to its bounds; no mask outside the picture."""
        corners = np.concatenate(polygons) * SCALE
        limit = np.array(self._image.size)
        low = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, limit).astype(int)
        if (high <= low).any():
            return None, 0, 0
        mask = Image.new("L", tuple((high - low).tolist()))
        draw = ImageDraw.Draw(mask)
        for points in polygons:
            draw.polygon((np.asarray(points) * SCALE - low).ravel().tolist(), fill=value)
        return mask, int(low[0]), int(low[1])


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cell: float, squash: float = 1.0
) -> np.ndarray:
    """Random field of one scale, float32 (height, width), mostly between -1 and 1.

    Args:
        cell: horizontal distance between independent values, in pixels.
        squash: ratio of that distance to the vertical one; above 1 gives horizontal streaks.
    """
    if cell <= 1 and squash == 1:
        return rng.uniform(-1, 1, (height, width)).astype(np.float32)
    rows = max(2, round(height * squash / cell) + 2)
    columns = max(2, round(width / cell) + 2)
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 3, squash: float = 1.0
) -> np.ndarray:
    """Sum of ``octaves`` fields, each twice as fine and half as strong, float32 (height, width)."""
    total = np.zeros((height, width), np.float32)
    strength = 1.0
    for _ in range(octaves):
        total += strength * smooth_noise(rng, height, width, cell, squash)
        cell = max(cell / 2, 1.0)
        strength /= 2
    return total / 1.5
