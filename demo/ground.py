"""The ground plane in perspective: meadow, sand, paving, roads, and water with reflections."""

from dataclasses import dataclass

import numpy as np

from .canvas import SCALE, Label, fractal_noise, rgb
from .scene_context import NEAR_PLANE, SceneContext

GROUND_END = 400.0
"""Depth in metres at which ground strips end: within a pixel of the horizon."""

ROAD_PAINT = rgb(226, 226, 220)

_TILE = 160  # texels of a ground texture along each side


@dataclass(frozen=True)
class Material:
    """The look of a piece of ground.

    Attributes:
        color: main colour in white light.
        patches: second colour, mixed in as large blotches.
        grain: strength of the fine texture, 0 to 1.
        joint: distance between the joints of paving, in metres; 0 for no joints.
    """

    color: np.ndarray
    patches: np.ndarray
    grain: float
    joint: float = 0.0


def meadow(rng: np.random.Generator) -> Material:
    """Grass, from lush to dry."""
    dry = rng.uniform(0, 1)
    color = rgb(86, 132, 54) * (1 - dry) + rgb(164, 156, 86) * dry
    return Material(color + rng.uniform(-10, 10, 3), color * rng.uniform(0.75, 1.2, 3), grain=0.32)


def sand(rng: np.random.Generator) -> Material:
    """A beach."""
    color = rgb(218, 194, 146) + rng.uniform(-14, 14, 3)
    return Material(color, color * 0.86, grain=0.14)


def paving(rng: np.random.Generator) -> Material:
    """Slabs of a pavement or a square, sandy to reddish."""
    color = rgb(188, 170, 146) if rng.random() < 0.6 else rgb(176, 140, 122)
    color = color + rng.uniform(-14, 14, 3)
    return Material(color, color * 0.92, grain=0.1, joint=rng.uniform(0.6, 1.2))


def asphalt(rng: np.random.Generator) -> Material:
    """A road, from fresh and dark to worn and pale."""
    color = rgb(94, 95, 100) * rng.uniform(0.72, 1.3)
    return Material(color, color * rng.uniform(0.86, 1.1), grain=0.12)


def ground_texture(scene: SceneContext, material: Material) -> np.ndarray:
    """The whole ground plane in one material, uint8 (height, width, 3), with haze above the horizon."""
    canvas, camera, light, rng = scene.canvas, scene.camera, scene.light, scene.rng
    first = min(max(int(np.floor(camera.horizon)) + 1, 0), canvas.height - 1)
    depth = camera.row_depth(np.arange(first, canvas.height) + 0.5)[:, None].astype(np.float32)
    columns = np.arange(canvas.width, dtype=np.float32) + np.float32(0.5 - camera.center)
    across = columns / np.float32(camera.focal) * depth
    tile = fractal_noise(rng, _TILE, _TILE, 8, octaves=4)
    offset_x, offset_z = rng.uniform(0, 50, 2).astype(np.float32)
    fine = _sample(tile, (across + offset_x) * 34, (depth + offset_z) * 24) * np.exp(-depth / 16)
    broad = _sample(tile, (across + offset_x) * 3.5, (depth + offset_z) * 2.0) * np.exp(-depth / 120)
    mix = np.clip(0.5 + 0.6 * broad, 0, 1)[..., None]
    color, patches = material.color.astype(np.float32), material.patches.astype(np.float32)
    surface = (color + (patches - color) * mix) * (1 + material.grain * fine)[..., None]
    if material.joint:
        gaps = np.minimum(
            np.abs((across / material.joint) % 1 - 0.5), np.abs((depth / material.joint) % 1 - 0.5)
        )
        surface *= (1 - 0.22 * (gaps < 0.07) * np.exp(-depth / 9))[..., None]
    haze = light.haze(depth)[..., None]
    pale = light.horizon.astype(np.float32)
    lit = surface * light.gain(light.sun[1]) * (1 - haze) + pale * haze
    texture = np.empty((canvas.height, canvas.width, 3), np.uint8)
    texture[:first] = np.clip(light.horizon, 0, 255)
    texture[first:] = np.clip(lit, 0, 255)
    return texture


def _sample(tile: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sample an infinite texture: the tile, mirrored at its edges."""
    period = 2 * _TILE - 1

    def fold(index: np.ndarray) -> np.ndarray:
        return np.abs(np.mod(index.astype(np.int32), period) - (_TILE - 1))

    return tile[fold(v), fold(u)]


def across_strip(scene: SceneContext, near: float, far: float) -> np.ndarray:
    """Ground points (4, 2) of a strip that crosses the whole view between two depths."""
    near = max(near, NEAR_PLANE)
    left_near, right_near = scene.visible_range(near, margin=1)
    left_far, right_far = scene.visible_range(far, margin=1)
    return np.array([[left_near, near], [right_near, near], [right_far, far], [left_far, far]])


def along_strip(left: float, right: float, near: float = NEAR_PLANE, far: float = GROUND_END) -> np.ndarray:
    """Ground points (4, 2) of a strip between two x that runs straight away from the camera."""
    return np.array([[left, near], [right, near], [right, far], [left, far]])


def cover(scene: SceneContext, points: np.ndarray, material: Material, label: int) -> None:
    """Cover the ground polygon ``points``, (x, z), (N, 2), with a material."""
    scene.canvas.paint(scene.ground_polygon(points), ground_texture(scene, material), label)


def paint_marking(scene: SceneContext, points: np.ndarray, color: np.ndarray) -> None:
    """Draw a road marking: a ground polygon (x, z), (N, 2), in one colour. Keeps the labels."""
    ground = np.stack([points[:, 0], np.zeros(len(points)), points[:, 1]], axis=1)
    scene.draw_face(ground, color, (0.0, 1.0, 0.0))


def cover_with_water(scene: SceneContext, points: np.ndarray) -> None:
    """Cover a ground polygon (x, z), (N, 2), with water that reflects what was already drawn behind it."""
    canvas, light, rng = scene.canvas, scene.light, scene.rng
    samples = canvas.coverage(scene.ground_polygon(points))
    middle = SCALE // 2
    wet = samples[middle::SCALE, middle::SCALE]
    if not wet.any():
        return
    height, width = wet.shape
    seen = canvas.picture().astype(np.float32)
    rows, columns = np.mgrid[0:height, 0:width]
    shore = np.where(wet.any(axis=0), wet.argmax(axis=0), round(scene.camera.horizon))[None, :]
    below = np.maximum(rows - shore, 0)
    depth = scene.camera.row_depth(np.maximum(np.arange(height) + 0.5, scene.camera.horizon + 0.5))
    depth = depth[:, None].astype(np.float32)
    across = (columns + 0.5 - scene.camera.center) / scene.camera.focal * depth
    tile = fractal_noise(rng, _TILE, _TILE, 10, octaves=4)
    ripple = _sample(tile, across * 14, depth * 26) * np.exp(-depth / 40) + 0.35 * _sample(
        tile, columns, rows * 6
    )
    choppy = rng.uniform(0.25, 1.0)
    source = np.clip(shore - below * 0.9 - ripple * below * 0.25 * choppy, 0, height - 1).astype(np.int64)
    aside = np.clip(columns + ripple * 2 * choppy, 0, width - 1).astype(np.int64)
    mirrored = seen[source, aside]
    body = (rgb(14, 116, 140) + rng.uniform(-14, 14, 3)) * light.gain(light.sun[1] * 0.8)
    # Water reflects more at grazing angles and is clearer at steep ones: a softened form of Schlick's
    # approximation.
    grazing = np.clip(depth / (depth + scene.camera.eye * 3.5), 0.15, 0.5)
    mirror = (grazing * rng.uniform(0.6, 0.9))[..., None]
    water = mirrored * mirror + body * (1 - mirror)
    water *= (1 + 0.2 * choppy * ripple)[..., None]
    crest = np.clip(ripple - 0.42, 0, 1)[..., None] * choppy
    water += (light.horizon - water) * np.clip(crest * 2.2, 0, 0.8)
    canvas.paint_mask(samples, np.clip(water, 0, 255).astype(np.uint8), Label.WATER)


def draw_cross_road(scene: SceneContext, near: float, far: float) -> None:
    """Draw a road across the view between two depths, with a dashed centre line."""
    cover(scene, across_strip(scene, near, far), asphalt(scene.rng), Label.ROAD)
    center = (near + far) / 2
    low, high = scene.visible_range(center, margin=2)
    for x in np.arange(low - scene.rng.uniform(0, 3), high, 3.6):
        dash = [[x, center - 0.09], [x + 1.9, center - 0.09], [x + 1.9, center + 0.09], [x, center + 0.09]]
        paint_marking(scene, np.array(dash), ROAD_PAINT)
