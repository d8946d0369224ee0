"""Smooth random fields, the raw material of every texture."""

import numpy as np
from PIL import Image


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cell: float, squash: float = 1.0
) -> np.ndarray:
    """Random field of one scale, float32 (height, width), mostly within -1 to 1.

    Args:
        cell: distance between independent values, in pixels, across.
        squash: how many times shorter the distance is downwards (above 1: horizontal streaks).
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
    """Sum of ``octaves`` fields, each twice as fine and half as strong, float32, mostly within -1 to 1."""
    total = np.zeros((height, width), np.float32)
    strength = 1.0
    for _ in range(octaves):
        total += strength * smooth_noise(rng, height, width, cell, squash)
        cell = max(cell / 2, 1.0)
        strength /= 2
    return total / 1.5
