"""Light, colour and image quality, varied as they vary between cameras, places and hours of the day.

Each transform takes an image (C, H, W), uint8 or float32 from 0 to 1, and its label (H, W), and keeps their
sizes and types. Only `CutOut` changes the label. All draw from torch's generator. ``strength`` widens or
narrows the ranges that are drawn from: 1 is for photos from other days and cameras, 0 changes nothing.
"""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2


class _OfValues(v2.Transform):
    """A change of the values of the image, which are float32 from 0 to 1 for it."""

    def change(self, values: Tensor) -> Tensor:
        """The changed values, (C, H, W), which may lie outside 0 to 1. It may write into ``values``."""
        raise NotImplementedError

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            return inpt
        plain = inpt.as_subclass(Tensor)
        if plain.dtype == torch.uint8:
            changed = self.change(plain.float() / 255).clamp_(0, 1)
            return tv_tensors.Image((changed * 255).round_().to(torch.uint8))
        return tv_tensors.Image(self.change(plain.clone()).clamp_(0, 1))


class Light(_OfValues):
    """Another exposure, gamma and white balance.

    Values v become gain * v ** gamma, with a gain of its own for each channel. At strength 1, gamma is 0.67
    to 1.5, and the gain would bring the mean of the given image to any brightness from 0.15 (dusk) to 0.6 (a
    sky without detail), by a factor of 0.35 to 2. So dark and bright training images become alike. The gains
    of the channels differ from their mean by a fifth or so at most.

    Args:
        white_balance: whether the gains of the channels differ; not for bands, which are not colours.

    Source: Afifi and Brown 2019, What Else Can Fool Deep Learning? (white balance as augmentation);
    Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness (brightness).
    """

    def __init__(self, strength: float = 1.0, *, white_balance: bool = True) -> None:
        super().__init__()
        self.strength, self.white_balance = strength, white_balance

    def change(self, values: Tensor) -> Tensor:
        gamma = math.exp(uniform(-0.4, 0.4) * self.strength)
        wanted = math.exp(uniform(math.log(0.15), math.log(0.6)))
        exposure = math.log2(wanted / max(1e-3, float(values.mean())))
        exposure = min(1.0, max(-1.5, exposure)) * self.strength
        tints = torch.empty(len(values) if self.white_balance else 1).uniform_(-0.2, 0.2)
        tints = (tints - tints.mean()) * self.strength  # the exposure alone changes the brightness
        return values.pow_(gamma).mul_(2 ** (exposure + tints).view(-1, 1, 1))


class Shadow(_OfValues):
    """A darker side of the image, as in the shadow of a house.

    The edge is a straight line through a random point, from sharp to a quarter of the image wide. At strength
    1, values on the darker side fall to 0.3 to 0.9 of what they were.

    Source: Buslaev et al. 2020, Albumentations (its RandomShadow draws polygons instead).
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def change(self, values: Tensor) -> Tensor:
        height, width = values.shape[-2:]
        angle, row, column = uniform(0, 2 * math.pi), uniform(0, 1), uniform(0, 1)
        rows = (torch.linspace(0, 1, height) - row).view(-1, 1)
        columns = torch.linspace(0, 1, width) - column
        side = torch.sigmoid((rows * math.sin(angle) + columns * math.cos(angle)) / uniform(0.005, 0.06))
        return values.mul_(1 - side * min(1.0, self.strength * uniform(0.1, 0.7)))


class Blur(_OfValues):
    """Lack of focus: a Gaussian blur of up to 1.5 pixels (standard deviation) at strength 1.

    Source: Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness (defocus).
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def change(self, values: Tensor) -> Tensor:
        sigma = max(1e-3, self.strength * uniform(0.2, 1.5))
        reach = min(math.ceil(2 * sigma), *(side - 1 for side in values.shape[-2:]))
        if reach < 1:
            return values
        kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
        padded = F.pad(values[:, None], (reach, reach, reach, reach), mode="reflect")
        return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


class Noise(_OfValues):
    """The noise of a sensor: Gaussian, with a standard deviation of up to 0.06 of white at strength 1.

    Half of it is the same for all channels, as noise of brightness is.

    Source: Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness (Gaussian noise).
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def change(self, values: Tensor) -> Tensor:
        sigma = self.strength * uniform(0, 0.06)
        noise = (torch.randn(values.shape) + torch.randn(values.shape[-2:])) * math.sqrt(0.5)
        return values.add_(noise, alpha=sigma)


class Jpeg(v2.Transform):
    """Compression as a JPEG file, of the quality 90 down to 30 at strength 1. For RGB in uint8 only.

    Source: Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness (JPEG compression).
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask) or not self.strength:
            return inpt
        quality = max(1, round(90 - 60 * self.strength * uniform(0, 1)))
        file = io.BytesIO()
        Image.fromarray(inpt.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        with Image.open(file) as compressed:
            return tv_tensors.Image(torch.from_numpy(np.array(compressed)).permute(2, 0, 1))


class CutOut(v2.Transform):
    """Rectangles of the mean colour, whose pixels count as unlabelled.

    The network has to know objects by their parts and cannot rely on one place of the image. At strength 1,
    there are one to three, each with sides of a tenth to a third of those of the image.

    Source: DeVries and Taylor 2017, Improved Regularization of Convolutional Neural Networks with Cutout.
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        boxes = []
        for _ in range(1 + below(3)):
            shares = (self.strength * uniform(0.1, 0.33), self.strength * uniform(0.1, 0.33))
            rows, columns = (
                min(side, round(side * s)) for side, s in zip((height, width), shares, strict=True)
            )
            boxes.append((below(height - rows + 1), below(width - columns + 1), rows, columns))
        return {"boxes": boxes}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        is_label = isinstance(inpt, tv_tensors.Mask)
        plain = inpt.as_subclass(Tensor).clone()
        fill = 0 if is_label else plain.float().mean((-2, -1), keepdim=True).to(plain.dtype)
        for top, left, rows, columns in params["boxes"]:
            plain[..., top : top + rows, left : left + columns] = fill
        return tv_tensors.Mask(plain) if is_label else tv_tensors.Image(plain)


PARTS: dict[str, tuple[float, Callable[[float], v2.Transform]]] = {
    "light": (0.8, Light),
    "shadow": (0.3, Shadow),
    "blur": (0.3, Blur),
    "noise": (0.3, Noise),
    "jpeg": (0.3, Jpeg),
    "cutout": (0.3, CutOut),
}
"""By its name in ``DATASET.augment_parts``: the share of the images that a part changes, and the part.

They are in the order in which a photo comes about: light, lens, sensor, file.
"""


def uniform(low: float, high: float) -> float:
    """A random number between two numbers."""
    return float(torch.empty(1).uniform_(low, high))


def below(limit: int) -> int:
    """A random integer from 0 to ``limit`` - 1."""
    return int(torch.randint(limit, ()))
