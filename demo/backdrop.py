"""The view at and above the horizon: sky, clouds, sun, birds, hills and distant woods."""

import numpy as np

from .canvas import Label, fractal_noise, pillow_color, rgb
from .scene_context import SceneContext


def draw_sky(scene: SceneContext) -> None:
    """Draw the sky: a gradient, clouds that are flatter near the horizon, the sun with its glow, birds."""
    canvas, light = scene.canvas, scene.light
    floor = _backdrop_height(scene)
    rows, columns = np.mgrid[0:floor, 0 : canvas.width].astype(np.float32)
    rise = (1 - rows / floor)[..., None]
    horizon, zenith = light.horizon.astype(np.float32), light.zenith.astype(np.float32)
    sky = horizon + (zenith - horizon) * rise**0.8
    sun_x, sun_y = _sun_position(scene)
    if light.sun[2] > 0:
        away = np.hypot(columns - np.float32(sun_x), rows - np.float32(sun_y)) / canvas.height
        glow = (np.exp(-away * 4.5) * (1 - 0.8 * light.clouds))[..., None]
        sky += (np.array([255, 244, 214], np.float32) - sky) * glow
    cover = fractal_noise(scene.rng, floor, canvas.width, canvas.width / 2.5, octaves=4, squash=2.2)
    thickness = np.clip((cover - (0.75 - 1.35 * light.clouds)) * 2.2, 0, 1)[..., None]
    underside = np.clip(np.roll(cover, -3, axis=0), 0, 1)[..., None]
    cloud = np.clip(horizon * 0.55 + 115 - 26 * underside, 0, 255)
    sky += (cloud - sky) * thickness * (0.5 + 0.35 * rise)
    corners = np.array([[0, 0], [canvas.width, 0], [canvas.width, floor], [0, floor]])
    canvas.paint(corners, np.clip(sky, 0, 255).astype(np.uint8), Label.SKY)
    if light.sun[2] > 0 and light.clouds < 0.8:
        radius = canvas.height * scene.rng.uniform(0.025, 0.045)
        canvas.ellipse(sun_x, sun_y, radius, radius, pillow_color(rgb(255, 250, 228)))
    if scene.rng.random() < 0.3:
        _draw_birds(scene)


def draw_hills(scene: SceneContext, height: float, ridges: int) -> None:
    """Draw hazy ridges along the horizon, about ``height`` pixels high, labelled as ground."""
    rng, light = scene.rng, scene.light
    for ridge in range(ridges):
        nearness = (ridge + 1) / ridges
        shape = fractal_noise(rng, 2, 48, rng.uniform(14, 40), octaves=4)[0]
        rise = height * (1.25 - 0.8 * nearness) * (0.75 + 0.45 * shape)
        rocky = ridge == 0 and ridges > 1 and rng.random() < 0.5
        color = rgb(140, 130, 120) if rocky else rgb(112, 134, 72)
        grain = 0.22 * fractal_noise(
            rng, _backdrop_height(scene), scene.canvas.width, 9, octaves=3, squash=1.6
        )
        haze = min(float(light.haze(500 * (1.15 - nearness))), 0.72)
        _draw_ridge(scene, rise, color + rng.uniform(-18, 18, 3), grain, haze, Label.GROUND)


def draw_far_wood(scene: SceneContext, height: float) -> None:
    """Draw distant tree tops along the horizon, about ``height`` pixels high, with gaps."""
    rng = scene.rng
    points = max(16, scene.canvas.width // 2)
    bumps = np.abs(fractal_noise(rng, 2, points, 5, octaves=3)[0])
    stands = np.clip(fractal_noise(rng, 2, points, 26, octaves=2)[0] + 0.65, 0, 1.3)
    rise = height * stands * (0.55 + 0.7 * bumps)
    grain = 0.35 * fractal_noise(rng, _backdrop_height(scene), scene.canvas.width, 4, octaves=2)
    haze = min(float(scene.light.haze(150)), 0.5)
    _draw_ridge(scene, rise, rgb(52, 84, 40) + rng.uniform(-16, 16, 3), grain, haze, Label.TREE)


def _draw_ridge(
    scene: SceneContext, rise: np.ndarray, color: np.ndarray, grain: np.ndarray, haze: float, label: int
) -> None:
    """Fill from the horizon up to ``rise`` pixels, (N,), at N columns across the picture."""
    light, horizon, width = scene.light, scene.camera.horizon, scene.canvas.width
    lit = color.astype(np.float32) * light.gain(0.6 * light.sun[1] + 0.15) * (1 + grain)[..., None]
    texture = np.clip(lit * (1 - haze) + light.horizon.astype(np.float32) * haze, 0, 255).astype(np.uint8)
    top = np.stack([np.linspace(-2, width + 2, len(rise)), horizon - np.maximum(rise, 0.6)], axis=1)
    outline = np.concatenate([top, [[width + 2, horizon + 1], [-2, horizon + 1]]])
    scene.canvas.paint(outline, texture, label)


def _backdrop_height(scene: SceneContext) -> int:
    """Rows of the backdrop: to just below the horizon, where the ground covers it."""
    return min(int(scene.camera.horizon) + 3, scene.canvas.height)


def _sun_position(scene: SceneContext) -> tuple[float, float]:
    """Column and row of the sun. Its height is limited so that it stays in the picture."""
    x, y, z = scene.light.sun
    distance = scene.camera.focal / max(abs(z), 0.2)
    column = scene.camera.center + distance * x * 0.8
    return column, scene.camera.horizon - min(distance * y, scene.camera.horizon * 0.85)


def _draw_birds(scene: SceneContext) -> None:
    rng = scene.rng
    x, y = rng.uniform(0.1, 0.9) * scene.canvas.width, rng.uniform(0.1, 0.6) * scene.camera.horizon
    for _ in range(int(rng.integers(2, 6))):
        wing = rng.uniform(1.2, 2.4)
        left, low = x + rng.normal(0, 9), y + rng.normal(0, 5)
        wings = np.array([[left - wing, low - wing * 0.6], [left, low], [left + wing, low - wing * 0.6]])
        scene.canvas.line(wings, 0.5, (50, 52, 60))
