"""A scene at one of the scales at which it is scored."""

import numpy as np
import torch
from PIL import Image

from .resize import resize
from .resized_windows import read_resized
from .scenes import Scene, Span

_HELD = 2**24  # bytes; a scene that is resized from or to more is not held in memory


class ScenePixels:
    """The pixels of a scene, resized as those of an image. Parts are (1, 3, h, w) uint8.

    With bands, they are (1, C, h, w) float32 and normalized.

    A scene of up to 16 MiB is resized as a whole, so its values are exactly those of an image. For larger
    ones, some of 8 bits may differ by 1, because recent versions of Pillow choose by the size which side they
    resize first, and those of bands by rounding.

    Args:
        size: (height, width).
    """

    def __init__(self, scene: Scene, size: tuple[int, int]) -> None:
        self.height, self.width = size
        self._scene = scene
        self._source = (scene.height, scene.width)
        self._whole: torch.Tensor | None = None
        bytes_of_pixel = 3 if scene.bands is None else 4 * scene.bands.channels
        largest = max(scene.height * scene.width, size[0] * size[1]) * bytes_of_pixel
        if self._source != size and largest <= _HELD:
            pixels = self._pixels((0, scene.height), (0, scene.width))
            if scene.bands is None:
                image = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
                self._whole = _first(np.array(image))
            else:
                self._whole = resize(pixels, size[1], size[0])

    def read(self, rows: Span, columns: Span) -> torch.Tensor:
        """Raises: SceneError as `Scene.read`."""
        if self._whole is not None:
            part = self._whole[:, slice(*rows), slice(*columns)]
        elif self._source == (self.height, self.width):
            part = _first(self._pixels(rows, columns))
        else:
            size = (self.height, self.width)
            part = _first(read_resized(self._pixels, self._source, size, rows, columns))
        return (part if self._scene.bands is None else self._scene.bands.normalize(part))[None]

    def _pixels(self, rows: Span, columns: Span) -> np.ndarray:
        return self._scene.read(rows, columns).pixels


def _first(pixels: np.ndarray) -> torch.Tensor:
    """An array (h, w, C) with the channels first."""
    return torch.from_numpy(pixels).permute(2, 0, 1)
