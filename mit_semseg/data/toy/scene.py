"""One rendered scene: format, camera, light, layout, and what a camera's sensor adds."""

from collections.abc import Callable, Sequence

import numpy as np

from . import labels
from .avenue import draw_avenue
from .canvas import Canvas
from .country import draw_country
from .light import pick_light
from .noise import smooth_noise
from .shore import draw_coast, draw_lake
from .stage import Camera, Stage
from .terrace import draw_terrace

SHORT_EDGES = (96, 112, 128, 144)
ASPECTS = (4 / 3, 3 / 2, 5 / 4, 1.0)
LAYOUTS: tuple[Callable[[Stage], None], ...] = (
    draw_avenue,
    draw_terrace,
    draw_lake,
    draw_coast,
    draw_country,
)

# How rough surfaces look, by label value: noise that goes with the light that falls on them.
_ROUGHNESS = np.zeros(len(labels.NAMES) + 1, np.float32)
_ROUGHNESS[[labels.GROUND, labels.ROAD, labels.BUILDING, labels.CAR, labels.PERSON]] = (
    0.06,
    0.05,
    0.06,
    0.02,
    0.03,
)


def render_scene(seed: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A street or a landscape, drawn from ``seed`` alone.

    Returns: the picture, uint8 (height, width, 3) RGB, and its labels, uint8 (height, width): places in
    ``labels.NAMES`` counted from 1, and 0 for things that are none of them.
    """
    rng = np.random.default_rng(seed)
    width, height = _pick_size(rng)
    camera = Camera(
        focal=min(width, height) * rng.uniform(1.25, 1.5),
        center=width * rng.uniform(0.42, 0.58),
        horizon=height * rng.uniform(0.38, 0.52),
        eye=rng.uniform(1.6, 2.0),
    )
    stage = Stage(rng, camera, pick_light(rng), Canvas(width, height))
    draw = LAYOUTS[int(rng.integers(len(LAYOUTS)))]
    draw(stage)
    label = stage.canvas.labels()
    return _expose(rng, stage.canvas.picture(), label), label


def _pick_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height in pixels: landscape format more often than portrait."""
    short = int(rng.choice(SHORT_EDGES))
    long = round(short * float(rng.choice(ASPECTS)))
    return (long, short) if rng.random() < 0.65 else (short, long)


def _expose(rng: np.random.Generator, picture: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Rough surfaces, colour cast, contrast, vignette and sensor noise."""
    height, width = label.shape
    grain = smooth_noise(rng, height, width, 2.0) + 0.7 * smooth_noise(rng, height, width, 7.0)
    image = picture.astype(np.float32) * (1 + _ROUGHNESS[label] * grain)[..., None]
    image *= rng.uniform(0.95, 1.05, 3).astype(np.float32)
    image = (image - 118) * np.float32(rng.uniform(0.88, 1.14)) + 118
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    image *= (1 - np.float32(rng.uniform(0, 0.14)) * (x * x + y * y))[..., None]
    image += rng.uniform(1.5, 5) * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
