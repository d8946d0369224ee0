"""Time of day and weather: the sun, the light on surfaces, and haze."""

import math
from dataclasses import dataclass

import numpy as np

from .canvas import Color, rgb

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """The light of one scene. Sky colours are float (3,) from 0 to 255, light colours are gains around 1.

    Attributes:
        sun: unit vector towards the sun (x right, y up, z forward).
        direct: gain of surfaces that face the sun.
        ambient: gain of all surfaces.
        zenith: colour of the sky overhead.
        horizon: colour of the sky near the horizon, and of haze.
        haze_depth: distance in metres at which haze replaces 63 % of a surface's colour.
        clouds: cloud cover, 0 to 1.
        shadows: darkness of cast shadows, 0 to 1.
        lit_windows: whether windows can be lit from inside.
    """

    sun: Vector
    direct: np.ndarray
    ambient: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    haze_depth: float
    clouds: float
    shadows: float
    lit_windows: bool

    def haze(self, depth: float | np.ndarray) -> np.ndarray:
        """Share of haze in the colour of a surface ``depth`` metres away, 0 to 1."""
        return 1 - np.exp(-np.asarray(depth) / self.haze_depth)

    def gain(self, facing: float | np.ndarray) -> np.ndarray:
        """Colour gain, float32 (..., 3), for the cosine between a surface's normal and the sun."""
        share = np.clip(np.asarray(facing, np.float32), 0, 1)[..., None]
        return self.ambient.astype(np.float32) + share * self.direct.astype(np.float32)

    def facing(self, normal: Vector) -> float:
        """Cosine between a surface's normal and the sun; negative if it faces away."""
        return sum(n * s for n, s in zip(normal, self.sun, strict=True))

    def shaded_color(self, color: np.ndarray, depth: float, normal: Vector = (0.0, 0.4, -0.9)) -> Color:
        """Colour for Pillow of a surface in this light, ``depth`` metres away."""
        clear = math.exp(-depth / self.haze_depth)
        direct = max(0.0, self.facing(normal))
        seen = [
            min(255, max(0, round(c * (a + d * direct) * clear + h * (1 - clear))))
            for c, a, d, h in zip(
                color.tolist(),
                self.ambient.tolist(),
                self.direct.tolist(),
                self.horizon.tolist(),
                strict=True,
            )
        ]
        return seen[0], seen[1], seen[2]

    def shadow_direction(self) -> tuple[float, float]:
        """Reach of a shadow in x and z per metre of height, at most 2.2 metres long."""
        x, y, z = self.sun
        flat = float(np.hypot(x, z))
        length = min(flat / max(y, 0.05), 2.2)
        return -x / max(flat, 1e-6) * length, -z / max(flat, 1e-6) * length


def pick_light(rng: np.random.Generator) -> Light:
    """A random time of day and weather: clear, low sun, overcast or dusk."""
    kind = rng.choice(["clear", "low", "overcast", "dusk"], p=[0.55, 0.22, 0.19, 0.04])
    azimuth = rng.uniform(-np.pi, np.pi)
    if kind == "clear":
        elevation, clouds, shadows = rng.uniform(0.6, 1.2), rng.uniform(0.05, 0.6), rng.uniform(0.3, 0.45)
        direct, ambient = rgb(0.62, 0.59, 0.52), rgb(0.58, 0.6, 0.64)
        zenith, horizon = rgb(62, 122, 205), rgb(178, 208, 236)
    elif kind == "low":
        elevation, clouds, shadows = rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.7), rng.uniform(0.28, 0.42)
        direct, ambient = rgb(0.8, 0.6, 0.38), rgb(0.58, 0.54, 0.55)
        zenith, horizon = rgb(94, 122, 180), rgb(246, 202, 150)
    elif kind == "overcast":
        elevation, clouds, shadows = rng.uniform(0.7, 1.2), rng.uniform(0.85, 1.0), rng.uniform(0.1, 0.2)
        direct, ambient = rgb(0.16, 0.16, 0.16), rgb(0.74, 0.76, 0.79)
        zenith, horizon = rgb(140, 152, 170), rgb(206, 212, 218)
    else:
        elevation, clouds, shadows = rng.uniform(0.1, 0.2), rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.3)
        direct, ambient = rgb(0.34, 0.22, 0.16), rgb(0.5, 0.48, 0.56)
        zenith, horizon = rgb(48, 58, 110), rgb(226, 140, 110)
    sun = (
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
        float(np.cos(elevation) * np.cos(azimuth)),
    )
    exposure = rng.uniform(0.88, 1.12)
    return Light(
        sun=sun,
        direct=direct * exposure,
        ambient=ambient * exposure,
        zenith=zenith * rng.uniform(0.85, 1.12),
        horizon=horizon * rng.uniform(0.9, 1.05),
        haze_depth=float(np.exp(rng.uniform(np.log(90), np.log(700)))),
        clouds=clouds,
        shadows=shadows,
        lit_windows=bool(kind == "dusk"),
    )
