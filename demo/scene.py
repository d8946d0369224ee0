"""Render one scene: size, camera, light, layout, and effects of lens and sensor."""

from collections.abc import Callable, Sequence

import numpy as np

from .canvas import NAMES, Canvas, Label, smooth_noise
from .landscapes import draw_coast, draw_country, draw_lake
from .light import pick_light
from .scene_context import Camera, SceneContext
from .streets import draw_avenue, draw_house_row

SHORT_EDGES = (96, 112, 128, 144)
ASPECTS = (4 / 3, 3 / 2, 5 / 4, 1.0)
LAYOUTS: tuple[Callable[[SceneContext], None], ...] = (
    draw_avenue,
    draw_house_row,
    draw_lake,
    draw_coast,
    draw_country,
)

# Strength of the noise on a surface relative to its brightness, by label value.
_ROUGHNESS = np.zeros(len(NAMES) + 1, np.float32)
_ROUGHNESS[[Label.GROUND, Label.ROAD, Label.BUILDING, Label.CAR, Label.PERSON]] = 0.06, 0.05, 0.06, 0.02, 0.03


def render_scene(seed: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A street or a landscape that depends only on ``seed``.

    Returns: the picture, uint8 (height, width, 3) RGB, and its labels, uint8 (height, width), with values of
    ``Label``.
    """
    rng = np.random.default_rng(seed)
    width, height = _pick_size(rng)
    camera = Camera(
        focal=min(width, height) * rng.uniform(1.25, 1.5),
        center=width * rng.uniform(0.42, 0.58),
        horizon=height * rng.uniform(0.38, 0.52),
        eye=rng.uniform(1.6, 2.0),
    )
    scene = SceneContext(rng, camera, pick_light(rng), Canvas(width, height))
    draw = LAYOUTS[int(rng.integers(len(LAYOUTS)))]
    draw(scene)
    label = scene.canvas.labels()
    return _add_camera_effects(rng, scene.canvas.picture(), label), label


def _pick_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height in pixels; landscape format is more frequent than portrait."""
    short = int(rng.choice(SHORT_EDGES))
    long = round(short * float(rng.choice(ASPECTS)))
    return (long, short) if rng.random() < 0.65 else (short, long)


def _add_camera_effects(rng: np.random.Generator, picture: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Add rough surfaces, a colour cast, contrast, a vignette and sensor noise."""
    height, width = label.shape
    grain = smooth_noise(rng, height, width, 2.0) + 0.7 * smooth_noise(rng, height, width, 7.0)
    image = picture.astype(np.float32) * (1 + _ROUGHNESS[label] * grain)[..., None]
    image *= rng.uniform(0.95, 1.05, 3).astype(np.float32)
    image = (image - 118) * np.float32(rng.uniform(0.88, 1.14)) + 118
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    image *= (1 - np.float32(rng.uniform(0, 0.14)) * (x * x + y * y))[..., None]
    image += rng.uniform(1.5, 5) * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
