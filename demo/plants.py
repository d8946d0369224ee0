"""Trees and bushes: a trunk with branches and a crown of ragged, shaded foliage."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .canvas import SCALE, Label, fractal_noise, rgb
from .scene_context import NEAR_PLANE, SceneContext, upright_shadow

_LARGEST = 220  # samples of a crown along its longer side; larger crowns are enlarged from this size


@dataclass(frozen=True)
class Tree:
    """A plant at (x, z), in metres. ``kind`` is "round", "conifer", "poplar" or "bush"."""

    x: float
    z: float
    height: float
    kind: str
    leaf: np.ndarray

    @property
    def depth(self) -> float:
        """Distance, in metres."""
        return self.z

    @property
    def spread(self) -> float:
        """Width of the crown, in metres."""
        return self.height * {"round": 0.72, "conifer": 0.5, "poplar": 0.32, "bush": 1.5}[self.kind]

    def cast_shadow(self, scene: SceneContext) -> None:
        """Darken the ground in the shadows of trunk and crown."""
        scene.canvas.shade(
            [
                upright_shadow(scene, self.x, self.z, self.height * 0.06, self.height * 0.5),
                upright_shadow(scene, self.x, self.z, self.spread, self.height * 0.95),
            ],
            scene.light.shadows,
        )

    def draw(self, scene: SceneContext) -> None:
        """Draw the trunk, then the crown over it."""
        bare = {"round": 0.3, "conifer": 0.1, "poplar": 0.1, "bush": 0.0}[self.kind]
        if self.kind != "bush":
            self._draw_trunk(scene, bare)
        self._draw_crown(scene, bare)

    def _draw_trunk(self, scene: SceneContext, bare: float) -> None:
        bark = rgb(96, 74, 54) * scene.rng.uniform(0.8, 1.15)
        thick = self.height * (0.035 if self.kind == "round" else 0.028)
        top = self.height * min(bare + 0.3, 0.7)
        scale = scene.camera.focal / max(self.z, NEAR_PLANE)
        points = np.array(
            [[0, 0], [0, top], [-0.13 * self.height, top * 1.15], [0.13 * self.height, top * 1.2]]
        )
        world = np.stack([self.x + points[:, 0], points[:, 1], np.full(4, self.z)], axis=1)
        foot, fork, left, right = scene.camera.project(world)
        dark = scene.light.shaded_color(bark * 0.75, self.z)
        pale = scene.light.shaded_color(bark * 1.2, self.z)
        half = thick * scale
        wide, narrow = np.array([half * 1.25, 0]), np.array([half * 0.7, 0])
        outline = np.array([foot - wide, foot + wide, fork + narrow, fork - narrow])
        scene.canvas.polygon(outline, dark, Label.TREE)
        sunny = np.array([0.45 * half if scene.light.sun[0] > 0 else -0.45 * half, 0])
        scene.canvas.line(np.array([foot + sunny, fork + sunny]), half * 0.7, pale)
        if self.kind == "round":
            low = foot + (fork - foot) * 0.6
            for end in (left, right):
                scene.canvas.line(np.array([low, end]), half * 0.7, dark, Label.TREE)

    def _draw_crown(self, scene: SceneContext, bare: float) -> None:
        scale = scene.camera.focal / max(self.z, NEAR_PLANE) * SCALE
        tall, wide = self.height * (1 - bare) * scale, self.spread * 1.12 * scale
        top = scene.camera.project(np.array([self.x, self.height, self.z])) * SCALE
        if not -wide / 2 < top[0] < scene.canvas.width * SCALE + wide / 2:
            return
        shrink = min(1.0, _LARGEST / max(tall, wide))
        rows, columns = max(4, round(tall * shrink)), max(4, round(wide * shrink))
        mask, light_facing, tone = self._foliage(scene, rows, columns)
        haze = float(scene.light.haze(self.z))
        lit = self.leaf.astype(np.float32) * scene.light.gain(light_facing) * tone[..., None]
        patch = np.clip(lit * (1 - haze) + scene.light.horizon * haze, 0, 255).astype(np.uint8)
        if shrink < 1:
            size = (max(4, round(wide)), max(4, round(tall)))
            patch = np.asarray(Image.fromarray(patch).resize(size, Image.Resampling.BILINEAR))
            mask = (
                np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)) > 0
            )
        scene.canvas.stamp(patch, mask, round(top[0] - mask.shape[1] / 2), round(top[1]), Label.TREE)

    def _foliage(
        self, scene: SceneContext, rows: int, columns: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mask of the crown, cosine to the sun and brightness of the leaves, each (rows, columns)."""
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        y, x = (y + 0.5) / rows * 2 - 1, (x + 0.5) / columns * 2 - 1
        clumps = fractal_noise(scene.rng, rows, columns, max(rows, columns) / 5, octaves=2)
        leaves = fractal_noise(scene.rng, rows, columns, max(rows, columns) / 16, octaves=2)
        sun_x, sun_y, _ = scene.light.sun
        if self.kind == "conifer":
            tier = (y + 1) / 2
            saw = 0.72 + 0.28 * ((tier * 5.5) % 1)
            reach = 0.04 + 0.92 * tier * saw
            mask = np.abs(x) + 0.12 * leaves < reach
            facing = 0.45 + 0.5 * np.sign(sun_x) * x / np.maximum(reach, 0.1)
            tone = 0.66 + 0.3 * ((tier * 5.5) % 1) + 0.25 * leaves
        else:
            if self.kind == "bush":
                y = (y - 1) / 2 + 0.15
            radius = np.hypot(x, y * (1.0 if self.kind != "bush" else 1.35))
            mask = radius + 0.2 * clumps + 0.1 * leaves < 0.84
            facing = 0.35 + 0.55 * (x * sun_x - y * max(sun_y, 0.5)) + 0.45 * clumps
            tone = 0.82 + 0.32 * leaves + 0.12 * clumps - 0.22 * np.clip(y, 0, 1)
        return mask, facing, np.clip(tone, 0.3, 1.4)


def pick_tree(
    rng: np.random.Generator, x: float, z: float, kinds: tuple[str, ...], size: float = 1.0
) -> Tree:
    """A random plant of one of ``kinds`` at (x, z); ``size`` scales its height."""
    kind = str(rng.choice(kinds))
    height = {"round": 5.8, "conifer": 8.0, "poplar": 8.5, "bush": 1.3}[kind] * rng.uniform(0.75, 1.3) * size
    leaf = rgb(74, 116, 44) * rng.uniform(0.7, 1.15) + rng.uniform(-14, 14, 3)
    if kind == "conifer":
        leaf = rgb(44, 84, 52) * rng.uniform(0.8, 1.2)
    elif kind == "round" and rng.random() < 0.16:
        leaf = rgb(186, 112, 38) + rng.uniform(-24, 24, 3)
    return Tree(x, z, height, kind, leaf)
