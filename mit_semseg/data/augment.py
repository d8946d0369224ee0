"""Augmentation beyond that of the published models, as torchvision transforms.

A transform takes an image and its label at the size of their files: a tv_tensors.Image (3, H, W) uint8, or
with bands (C, H, W) float32 from 0 to 1, and a tv_tensors.Mask (H, W) of standard values, where 0 means
unlabelled. It returns both at the size to train on. It draws from torch's generator, which is seeded again
for every image, so its draws depend only on the seed and the position in the schedule.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from ..errors import UserError
from .bands import Bands
from .photometric import PARTS, Light, below
from .resize import fit_size, pick_nearest

Transform = Callable[..., tuple[Tensor, Tensor]]

_TRIES = 10  # random windows to draw; the last is used even if one class fills too much of it


class _Window(NamedTuple):
    """A part of an image, in pixels of that image, and the size to resize it to."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]  # height, width


class RandomScaledCrop(v2.Transform):
    """A random window of the image at a random scale, and the same window of the label (nearest neighbour).

    The image is scaled to a short edge drawn from ``short_edges``, times a scale drawn from ``scales``. If it
    is then larger than ``size``, it is cropped at a random position. Only the window is resized, not the
    whole image.

    Args:
        size: height and width of the crop, in pixels.
        short_edges, max_long_edge: sizes of the images without augmentation, in pixels.
        scales: the smallest and the largest scale; the scale is drawn uniformly between them.
        max_share: a window is drawn again, up to ten times in all, if one class has more than this share of
            its labelled pixels; 1 for no limit.

    Source: Chen et al. 2017, Rethinking Atrous Convolution, section 4.1 (scales and crop).
    """

    def __init__(
        self,
        size: Sequence[int],
        short_edges: Sequence[int],
        max_long_edge: int,
        scales: Sequence[float] = (0.5, 2.0),
        max_share: float = 0.75,
    ) -> None:
        super().__init__()
        self.size = (size[0], size[1])
        self.short_edges = tuple(short_edges)
        self.max_long_edge = max_long_edge
        self.scales = (scales[0], scales[1])
        self.max_share = max_share

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        label = next(x for x in flat_inputs if isinstance(x, tv_tensors.Mask)).numpy()
        height, width = label.shape
        scale = float(torch.empty(1).uniform_(*self.scales))
        short_edge = max(1, self.short_edges[below(len(self.short_edges))] * scale)
        scaled_width, scaled_height = fit_size(width, height, short_edge, max(1, self.max_long_edge * scale))
        size = (min(self.size[0], scaled_height), min(self.size[1], scaled_width))
        rows = min(height, max(1, round(size[0] * height / scaled_height)))
        columns = min(width, max(1, round(size[1] * width / scaled_width)))
        for _ in range(_TRIES):
            window = _Window(below(height - rows + 1), below(width - columns + 1), rows, columns, size)
            if self._is_mixed(_cut(label, window)):
                break
        return {"window": window}

    def _is_mixed(self, values: np.ndarray) -> bool:
        counts = np.bincount(values[::4, ::4].reshape(-1))[1:]  # a sixteenth of the pixels is enough
        return self.max_share >= 1 or counts.sum() == 0 or counts.max() <= self.max_share * counts.sum()

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        window: _Window = params["window"]
        if isinstance(inpt, tv_tensors.Mask):
            picked = pick_nearest(_cut(inpt.numpy(), window), window.size[1], window.size[0])
            return tv_tensors.Mask(torch.from_numpy(picked))
        return v2.functional.resized_crop(inpt, *window[:4], size=list(window.size), antialias=True)


class BrightnessContrast(v2.Transform):
    """The colour jitter of images with bands: brightness and contrast, the same for all bands.

    Values are multiplied by a random factor, and their distance to the mean of their band by another one,
    each drawn from 1 minus to 1 plus the argument. Values stay from 0 to 1.

    Shape: (C, H, W) float32.
    """

    def __init__(self, brightness: float, contrast: float) -> None:
        super().__init__()
        self.brightness, self.contrast = brightness, contrast

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        factors = (float(torch.empty(1).uniform_(1 - by, 1 + by)) for by in (self.brightness, self.contrast))
        return dict(zip(("brightness", "contrast"), factors, strict=True))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            return inpt
        values = (inpt.as_subclass(Tensor) * params["brightness"]).clamp_(0, 1)
        mean = values.mean((-2, -1), keepdim=True)
        return tv_tensors.Image(((values - mean) * params["contrast"] + mean).clamp_(0, 1))


def crop(opt: Any) -> Transform:
    """The standard recipe: random scale, crop, horizontal flip and colour jitter.

    Saturation and hue exist for red, green and blue only, so images with bands change in brightness and
    contrast.

    Args:
        opt: anything with ``crop_size``, ``imgSizes``, ``imgMaxSize``, ``scale_range``, ``crop_max_share``
            and ``random_flip``, see docs/config.md.
    """
    return v2.Compose(_scaled_crop_and_jitter(opt))


def photos(opt: Any) -> Transform:
    """The recipe ``crop``, then light, shadows, blur, noise, JPEG and cut-outs, each on some of the images.

    It is for photos that have to be segmented in other places, by other cameras and at other hours than those
    of the training images. Images with bands keep their white balance and are not compressed, because bands
    are not colours and are not stored as JPEG.

    Args:
        opt: as for `crop`, with ``augment_strength`` and ``augment_parts``, see docs/config.md.
    """
    has_bands = Bands.of(opt) is not None
    steps = _scaled_crop_and_jitter(opt)
    for name, (share, part) in PARTS.items():
        if name not in opt.augment_parts or (has_bands and name == "jpeg"):
            continue
        if has_bands and name == "light":
            transform: v2.Transform = Light(opt.augment_strength, white_balance=False)
        else:
            transform = part(opt.augment_strength)
        steps.append(v2.RandomApply([transform], p=share))
    return v2.Compose(steps)


def _scaled_crop_and_jitter(opt: Any) -> list[v2.Transform]:
    jitter: v2.Transform
    if Bands.of(opt) is None:
        jitter = v2.ColorJitter(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
    else:
        jitter = BrightnessContrast(brightness=0.125, contrast=0.5)
    return [
        RandomScaledCrop(opt.crop_size, opt.imgSizes, opt.imgMaxSize, opt.scale_range, opt.crop_max_share),
        v2.RandomHorizontalFlip(0.5 if opt.random_flip else 0.0),
        # Not RandomPhotometricDistort, which also swaps channels and so turns the sky red.
        v2.RandomApply([jitter], p=0.8),
    ]


AUGMENTATIONS: dict[str, Callable[[Any], Transform]] = {"crop": crop, "photos": photos}


def build_augmentation(name: str, opt: Any) -> Transform:
    """The transform that a name in ``AUGMENTATIONS`` or a user's function ``module:function`` builds.

    The module is searched on Python's path and in the working directory. The function is called with ``opt``.

    Raises: UserError if there is no such name, module or function.
    """
    if name in AUGMENTATIONS:
        return AUGMENTATIONS[name](opt)
    module_name, _, function_name = name.partition(":")
    if not function_name:
        raise UserError(
            f"DATASET.augment is '{name}', but takes published, {', '.join(AUGMENTATIONS)}, or a function of "
            "yours as module:function."
        )
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise UserError(
            f"DATASET.augment is '{name}', but there is no module {module_name}, neither in {folder} nor "
            "where Python looks for modules (PYTHONPATH)."
        ) from None
    except AttributeError:
        raise UserError(f"DATASET.augment is '{name}', but {module_name} has no {function_name}.") from None
    if not callable(function):
        kind = type(function).__name__
        raise UserError(f"DATASET.augment is '{name}', which is of type {kind}, not a function.")
    transform = function(opt)
    if not callable(transform):
        kind = type(transform).__name__
        raise UserError(
            f"DATASET.augment is '{name}', which returned a value of type {kind}, not a transform."
        )
    return cast(Transform, transform)


def augmented(
    transform: Transform, pixels: np.ndarray, values: np.ndarray, seed: int, num_class: int | None = None
) -> tuple[Tensor, np.ndarray]:
    """An image and its label, transformed with a seed.

    Args:
        pixels: (H, W, 3) uint8; with bands (H, W, C) float32 from 0 to 1.
        values: standard values of the label, (H, W).
        num_class: largest value that the transformed label may hold; None for any.

    Returns: the image, (3, h, w) uint8 or (C, h, w) float32, and the label (h, w).
    Raises: UserError if the transform returns anything else, or label values that do not stand for a class.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed the GPUs and so change what dropout draws there.
        torch.default_generator.manual_seed(seed)
        given = torch.from_numpy(pixels).permute(2, 0, 1)
        image = tv_tensors.Image(given)
        found = transform(image, tv_tensors.Mask(torch.from_numpy(values)))
    image, label = found if isinstance(found, tuple | list) and len(found) == 2 else (found, None)
    fits = (
        isinstance(image, Tensor)
        and isinstance(label, Tensor)
        and image.dtype == given.dtype
        and image.dim() == 3
        and image.shape == (len(given), *label.shape)
        and label.numel() > 0
        and not label.is_floating_point()
    )
    if not fits:
        raise UserError(
            f"DATASET.augment made {_describe(image)} and {_describe(label)}. It must return an image "
            f"({len(given)}, h, w) {str(given.dtype).removeprefix('torch.')} and a label (h, w) of whole "
            "numbers; normalizing comes later."
        )
    standard = label.as_subclass(Tensor).numpy()
    low, high = int(standard.min()), int(standard.max())
    if low < 0 or (num_class is not None and high > num_class):
        # Refused here, because a GPU would stop at such a target with an error that does not name it.
        allowed = "0 or more" if num_class is None else f"from 0 to {num_class}"
        raise UserError(
            f"DATASET.augment made a label with the values {low} to {high}; they must be {allowed}. "
            "0 stands for no class: fill borders with it."
        )
    return image.as_subclass(Tensor), standard


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _cut(label: np.ndarray, window: _Window) -> np.ndarray:
    return label[window.top : window.top + window.height, window.left : window.left + window.width]
