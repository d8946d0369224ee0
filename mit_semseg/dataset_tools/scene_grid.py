"""The division of the ground into square areas, and the windows of each scene in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..data.scene_pairs import ScenePair, name_of


class SceneInfo(NamedTuple):
    """What a grid and a report need of a scene and its label, so that the files need not stay open.

    Attributes:
        transform: from (column, row) to coordinates.
        system: the name of the reference system.
        class_names: the names of label values, if the label has some.
    """

    image: Path
    label: Path
    width: int
    height: int
    transform: Any
    georeferenced: bool
    system: str
    class_names: dict[int, str]

    @classmethod
    def of(cls, pair: ScenePair) -> "SceneInfo":
        image, label = pair
        return cls(
            Path(image.path),
            Path(label.path),
            image.width,
            image.height,
            image.transform,
            image.georeferenced,
            name_of(image),
            label.classes(),
        )

    @property
    def is_north_up(self) -> bool:
        transform = self.transform
        return bool(self.georeferenced and transform.b == transform.d == 0 and transform.a > 0 > transform.e)

    @property
    def resolution(self) -> tuple[float, float]:
        """Width and height of a pixel in the units of the coordinates, of a scene whose north is up."""
        return float(self.transform.a), float(-self.transform.e)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of a scene whose north is up."""
        width, height = self.resolution
        left, top = float(self.transform.c), float(self.transform.f)
        return left, top - height * self.height, left + width * self.width, top


@dataclass(frozen=True)
class Window:
    """A window of a scene, in pixels, and the area of the ground that it is in."""

    image: Path
    label: Path
    top: int
    left: int
    area: tuple[int, ...]


class Grid:
    """Square areas of the ground, or of each scene if it has no coordinates or is turned.

    Attributes:
        side: of an area, in pixels of the finest scene.
    """

    def __init__(self, scenes: Sequence[SceneInfo], window: int, area: int) -> None:
        """
        Args:
            window: side of a window, in pixels.
            area: side of an area, in windows.
        """
        self._window = window
        self._on_ground = all(scene.is_north_up for scene in scenes)
        self.side = window * area
        if self._on_ground:
            # The box around all scenes is divided evenly, so that little is left at its border.
            boxes = [scene.box for scene in scenes]
            self._left, self._top = min(box[0] for box in boxes), max(box[3] for box in boxes)
            self._resolution = min(scene.resolution[0] for scene in scenes)
            width = (max(box[2] for box in boxes) - self._left) / self._resolution
            height = (self._top - min(box[1] for box in boxes)) / self._resolution
        else:
            width = max(scene.width for scene in scenes)
            height = max(scene.height for scene in scenes)
        # Rounded down, so that no area is narrower than a window.
        self._across = width / max(1, int(width / self.side))
        self._down = height / max(1, int(height / self.side))

    def windows(self, number: int, scene: SceneInfo) -> list[Window]:
        """The windows of a scene. They cover each area that is wide enough, and none crosses two.

        Args:
            number: of the scene, which is part of the key of its areas if scenes do not share the ground.
        """
        size = self._window
        if self._on_ground:
            left, _, _, top = scene.box
            unit = scene.resolution
            offset = (left - self._left) / unit[0], (self._top - top) / unit[1]
            step = self._across * self._resolution / unit[0], self._down * self._resolution / unit[1]
            key: tuple[int, ...] = ()
        else:
            offset, step, key = (0.0, 0.0), (self._across, self._down), (number,)
        found = []
        for column, (left_edge, right_edge) in _cells(offset[0], step[0], scene.width):
            for row, (top_edge, bottom_edge) in _cells(offset[1], step[1], scene.height):
                for y in _starts(top_edge, bottom_edge, size):
                    for x in _starts(left_edge, right_edge, size):
                        found.append(Window(scene.image, scene.label, y, x, (*key, row, column)))
        return found


def _cells(offset: float, step: float, length: int) -> list[tuple[int, tuple[int, int]]]:
    """The cells of a grid along an axis of a scene, each with its first pixel and the one after its last.

    Args:
        offset: of the scene from the grid's origin, in pixels.
        step: side of a cell, in pixels.
    """
    cells = []
    tiny = 1e-6  # coordinates are rounded
    for number in range(math.floor(offset / step + tiny), math.ceil((offset + length) / step - tiny)):
        first = max(0, math.ceil(number * step - offset - tiny))
        last = min(length, math.floor((number + 1) * step - offset + tiny))
        cells.append((number, (first, last)))
    return cells


def _starts(first: int, last: int, size: int) -> list[int]:
    """Where windows start that cover a span evenly; none if it is too short for one.

    >>> _starts(0, 1000, 512), _starts(100, 400, 512)
    ([0, 488], [])
    """
    free = last - first - size
    if free < 0:
        return []
    count = -(-free // size)
    return [first + (k * free // count if count else 0) for k in range(count + 1)]
