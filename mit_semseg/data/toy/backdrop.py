"""What lies at and above the horizon: sky, clouds, sun, birds, hills and far woods."""

import numpy as np

from . import labels
from .canvas import as_color, rgb
from .noise import fractal_noise
from .stage import Stage


def draw_sky(stage: Stage) -> None:
    """Everything above the horizon: a gradient, clouds that flatten downwards, the sun, its glow, birds."""
    canvas, light = stage.canvas, stage.light
    floor = _floor(stage)
    rows, columns = np.mgrid[0:floor, 0 : canvas.width].astype(np.float32)
    rise = (1 - rows / floor)[..., None]
    horizon, zenith = light.horizon.astype(np.float32), light.zenith.astype(np.float32)
    sky = horizon + (zenith - horizon) * rise**0.8
    sun_x, sun_y = _sun_position(stage)
    if light.sun[2] > 0:
        away = np.hypot(columns - np.float32(sun_x), rows - np.float32(sun_y)) / canvas.height
        glow = (np.exp(-away * 4.5) * (1 - 0.8 * light.clouds))[..., None]
        sky += (np.array([255, 244, 214], np.float32) - sky) * glow
    cover = fractal_noise(stage.rng, floor, canvas.width, canvas.width / 2.5, octaves=4, squash=2.2)
    thickness = np.clip((cover - (0.75 - 1.35 * light.clouds)) * 2.2, 0, 1)[..., None]
    underside = np.clip(np.roll(cover, -3, axis=0), 0, 1)[..., None]
    cloud = np.clip(horizon * 0.55 + 115 - 26 * underside, 0, 255)
    sky += (cloud - sky) * thickness * (0.5 + 0.35 * rise)
    corners = np.array([[0, 0], [canvas.width, 0], [canvas.width, floor], [0, floor]])
    canvas.paint(corners, np.clip(sky, 0, 255).astype(np.uint8), labels.SKY)
    if light.sun[2] > 0 and light.clouds < 0.8:
        radius = canvas.height * stage.rng.uniform(0.025, 0.045)
        canvas.ellipse(sun_x, sun_y, radius, radius, as_color(rgb(255, 250, 228)))
    if stage.rng.random() < 0.3:
        _draw_birds(stage)


def draw_hills(stage: Stage, height: float, ridges: int) -> None:
    """Hazy ridges along the horizon, the farthest first, up to about ``height`` pixels. They are ground."""
    rng, light = stage.rng, stage.light
    for ridge in range(ridges):
        nearness = (ridge + 1) / ridges
        shape = fractal_noise(rng, 2, 48, rng.uniform(14, 40), octaves=4)[0]
        rise = height * (1.25 - 0.8 * nearness) * (0.75 + 0.45 * shape)
        rocky = ridge == 0 and ridges > 1 and rng.random() < 0.5
        color = rgb(140, 130, 120) if rocky else rgb(112, 134, 72)
        grain = 0.22 * fractal_noise(rng, _floor(stage), stage.canvas.width, 9, octaves=3, squash=1.6)
        haze = min(float(light.haze(500 * (1.15 - nearness))), 0.72)
        _draw_ridge(stage, rise, color + rng.uniform(-18, 18, 3), grain, haze, labels.GROUND)


def draw_far_wood(stage: Stage, height: float) -> None:
    """A row of far tree tops along the horizon, about ``height`` pixels high, with gaps."""
    rng = stage.rng
    points = max(16, stage.canvas.width // 2)
    bumps = np.abs(fractal_noise(rng, 2, points, 5, octaves=3)[0])
    stands = np.clip(fractal_noise(rng, 2, points, 26, octaves=2)[0] + 0.65, 0, 1.3)
    rise = height * stands * (0.55 + 0.7 * bumps)
    grain = 0.35 * fractal_noise(rng, _floor(stage), stage.canvas.width, 4, octaves=2)
    haze = min(float(stage.light.haze(150)), 0.5)
    _draw_ridge(stage, rise, rgb(52, 84, 40) + rng.uniform(-16, 16, 3), grain, haze, labels.TREE)


def _draw_ridge(
    stage: Stage, rise: np.ndarray, color: np.ndarray, grain: np.ndarray, haze: float, label: int
) -> None:
    """Fill from the horizon up to ``rise``, (N,) pixels at N places across the picture."""
    light, horizon, width = stage.light, stage.camera.horizon, stage.canvas.width
    lit = color.astype(np.float32) * light.gain(0.6 * light.sun[1] + 0.15) * (1 + grain)[..., None]
    texture = np.clip(lit * (1 - haze) + light.horizon.astype(np.float32) * haze, 0, 255).astype(np.uint8)
    top = np.stack([np.linspace(-2, width + 2, len(rise)), horizon - np.maximum(rise, 0.6)], axis=1)
    outline = np.concatenate([top, [[width + 2, horizon + 1], [-2, horizon + 1]]])
    stage.canvas.paint(outline, texture, label)


def _floor(stage: Stage) -> int:
    """Rows that the backdrop reaches down to: a little below the horizon, where the ground covers it."""
    return min(int(stage.camera.horizon) + 3, stage.canvas.height)


def _sun_position(stage: Stage) -> tuple[float, float]:
    """Column and row of the sun: its side is true, its height is lowered into the frame."""
    x, y, z = stage.light.sun
    distance = stage.camera.focal / max(abs(z), 0.2)
    column = stage.camera.center + distance * x * 0.8
    return column, stage.camera.horizon - min(distance * y, stage.camera.horizon * 0.85)


def _draw_birds(stage: Stage) -> None:
    rng = stage.rng
    x, y = rng.uniform(0.1, 0.9) * stage.canvas.width, rng.uniform(0.1, 0.6) * stage.camera.horizon
    for _ in range(int(rng.integers(2, 6))):
        wing = rng.uniform(1.2, 2.4)
        left, low = x + rng.normal(0, 9), y + rng.normal(0, 5)
        wings = np.array([[left - wing, low - wing * 0.6], [left, low], [left + wing, low - wing * 0.6]])
        stage.canvas.line(wings, 0.5, (50, 52, 60))
