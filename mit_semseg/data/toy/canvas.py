"""A picture and its labels, drawn together so that their edges agree."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]

SCALE = 3
"""Samples a pixel along each axis: the picture averages them, the label takes the one in the middle."""


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """A colour to compute with: float (3,), 0 to 255."""
    return np.array([red, green, blue], np.float64)


def as_color(values: np.ndarray) -> Color:
    """Float colour -> the integers that Pillow draws with."""
    red, green, blue = np.clip(np.rint(values), 0, 255).astype(int).tolist()
    return red, green, blue


class Canvas:
    """An RGB picture and a label map at SCALE times their final size.

    Positions are in final pixels, y downwards. ``label`` None leaves the labels as they are, for window panes
    and other marks on something that is labelled already.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._image = Image.new("RGB", (width * SCALE, height * SCALE))
        self._label = Image.new("L", self._image.size)
        self._image_draw = ImageDraw.Draw(self._image)
        self._label_draw = ImageDraw.Draw(self._label)

    def polygon(self, points: Iterable[Sequence[float]], color: Color, label: int | None = None) -> None:
        """Fill the polygon of ``points``, (x, y) each."""
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
        """Stroke through ``points``, (N, 2), with round joints and ends, ``thickness`` pixels wide."""
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
        """Fill a polygon with the part of ``texture``, uint8 (height, width, 3), that lies under it.

        A texture may have fewer rows than the picture if the polygon ends above its last one.
        """
        stencil, left, top = self._stencil([points], 255)
        if stencil is not None:
            self._paste(texture, stencil, left, top, label)

    def paint_where(self, samples: np.ndarray, texture: np.ndarray, label: int) -> None:
        """Fill the sample mask of :meth:`samples_of` with ``texture``, uint8 (height, width, 3)."""
        self._paste(texture, Image.fromarray(samples.astype(np.uint8) * 255), 0, 0, label)

    def samples_of(self, points: np.ndarray) -> np.ndarray:
        """Which samples a polygon covers: bool (height * SCALE, width * SCALE)."""
        covered = np.zeros((self._label.height, self._label.width), bool)
        stencil, left, top = self._stencil([points], 255)
        if stencil is not None:
            covered[top : top + stencil.height, left : left + stencil.width] = np.asarray(stencil) > 0
        return covered

    def shade(self, polygons: Sequence[np.ndarray], strength: float, color: Color = (12, 16, 34)) -> None:
        """Blend ``color`` over the polygons' union, ``strength`` from 0 (nothing) to 1; labels stay."""
        stencil, left, top = self._stencil(polygons, round(255 * strength))
        if stencil is not None:
            self._image.paste(color, (left, top, left + stencil.width, top + stencil.height), stencil)

    def stamp(self, patch: np.ndarray, mask: np.ndarray, left: int, top: int, label: int) -> None:
        """Put a patch, uint8 (h, w, 3), where ``mask``, bool (h, w), holds: all in samples, not pixels."""
        stencil = Image.fromarray(mask.astype(np.uint8) * 255)
        self._image.paste(Image.fromarray(patch), (left, top), stencil)
        self._label.paste(label, (left, top, left + mask.shape[1], top + mask.shape[0]), stencil)

    def picture(self) -> np.ndarray:
        """What is drawn so far, at final size: uint8 (height, width, 3)."""
        return np.asarray(self._image.reduce(SCALE))

    def labels(self) -> np.ndarray:
        """Labels at final size: uint8 (height, width)."""
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
        """Mask of the polygons' union, cut to its bounds, its left and its top; None outside the picture."""
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
