"""Augmentation beyond that of the published models, as transforms of torchvision.

A transform takes an image and its label, as tv_tensors.Image (3, H, W) uint8 and tv_tensors.Mask (H, W) of
standard values (0 where there is no class), in the size of their file, and returns both in the size to train
on. It draws from torch's generator, which is set anew for every image, so that what it draws depends on the
seed and the place in the schedule only.
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
from .geometry import fit_size
from .resample import pick_nearest

Transform = Callable[..., tuple[Tensor, Tensor]]

_TRIES = 10  # of a crop that too large a share of one class fills, before it is taken as it is


class _Window(NamedTuple):
    """Part of an image, in its own pixels, and the size to bring it to."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]  # height, width


class RandomScaledCrop(v2.Transform):
    """A window of the image at a random scale; the label's alike, each value that of the nearest pixel.

    The image is brought to a short edge drawn from ``short_edges``, times a scale drawn from ``scales``. What
    is larger than ``size`` is cropped to it, at a random place. Only the window is resized, not the image.

    Args:
        size: height and width of the crop, in pixels.
        short_edges, max_long_edge: as the images' sizes without augmentation, in pixels.
        scales: the smallest and the largest scale; uniform between.
        max_share: a window of whose labelled pixels one class has more than this share is drawn again, ten
            times at most; 1 for no limit.

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
        short_edge = max(1, self.short_edges[_below(len(self.short_edges))] * scale)
        scaled_width, scaled_height = fit_size(width, height, short_edge, max(1, self.max_long_edge * scale))
        size = (min(self.size[0], scaled_height), min(self.size[1], scaled_width))
        rows = min(height, max(1, round(size[0] * height / scaled_height)))
        columns = min(width, max(1, round(size[1] * width / scaled_width)))
        for _ in range(_TRIES):
            window = _Window(_below(height - rows + 1), _below(width - columns + 1), rows, columns, size)
            if self._is_mixed(_cut(label, window)):
                break
        return {"window": window}

    def _is_mixed(self, values: np.ndarray) -> bool:
        counts = np.bincount(values[::4, ::4].reshape(-1))[1:]  # a sixteenth of the pixels tells enough
        return self.max_share >= 1 or counts.sum() == 0 or counts.max() <= self.max_share * counts.sum()

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        window: _Window = params["window"]
        if isinstance(inpt, tv_tensors.Mask):
            picked = pick_nearest(_cut(inpt.numpy(), window), window.size[1], window.size[0])
            return tv_tensors.Mask(torch.from_numpy(picked))
        return v2.functional.resized_crop(inpt, *window[:4], size=list(window.size), antialias=True)


def crop(opt: Any) -> Transform:
    """The field's standard recipe: scale, crop, mirror, change the colours.

    Args:
        opt: anything with ``crop_size``, ``imgSizes``, ``imgMaxSize``, ``scale_range``, ``crop_max_share``
            and ``random_flip``, see config/defaults.py.
    """
    return v2.Compose(
        [
            RandomScaledCrop(
                opt.crop_size, opt.imgSizes, opt.imgMaxSize, opt.scale_range, opt.crop_max_share
            ),
            v2.RandomHorizontalFlip(0.5 if opt.random_flip else 0.0),
            # Not RandomPhotometricDistort, which also swaps the channels, and so makes the sky red.
            v2.RandomApply([v2.ColorJitter(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)], p=0.8),
        ]
    )


AUGMENTATIONS: dict[str, Callable[[Any], Transform]] = {"crop": crop}


def build_augmentation(name: str, opt: Any) -> Transform:
    """The transform of a name in ``AUGMENTATIONS``, or what the user's function ``module:function`` returns.

    The module is looked for where Python looks, and in the working directory. The function is called with
    ``opt``.

    Raises: UserError if there is no such name, module or function.
    """
    if name in AUGMENTATIONS:
        return AUGMENTATIONS[name](opt)
    module_name, _, function_name = name.partition(":")
    if not function_name:
        raise UserError(
            f"DATASET.augment is '{name}', but takes published, {', '.join(AUGMENTATIONS)}, or the place of "
            "a function of yours as module:function."
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
        raise UserError(f"DATASET.augment is '{name}', which is no function but of type {kind}.")
    transform = function(opt)
    if not callable(transform):
        kind = type(transform).__name__
        raise UserError(
            f"DATASET.augment is '{name}', which returned no transform but a value of type {kind}."
        )
    return cast(Transform, transform)


def augmented(
    transform: Transform, pixels: np.ndarray, values: np.ndarray, seed: int, num_class: int | None = None
) -> tuple[Tensor, np.ndarray]:
    """An image (H, W, 3) uint8 and its label's standard values (H, W), transformed with a seed.

    Args:
        num_class: up to which the label's values may go; None for any.

    Returns: the image as (3, h, w), the label (h, w).
    Raises: UserError if the transform returns something else than those, or values that stand for no class.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs too, and so change what dropout draws there.
        torch.default_generator.manual_seed(seed)
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        found = transform(image, tv_tensors.Mask(torch.from_numpy(values)))
    image, label = found if isinstance(found, tuple | list) and len(found) == 2 else (found, None)
    fits = (
        isinstance(image, Tensor)
        and isinstance(label, Tensor)
        and image.dtype == torch.uint8
        and image.dim() == 3
        and image.shape == (3, *label.shape)
        and label.numel() > 0
        and not label.is_floating_point()
    )
    if not fits:
        raise UserError(
            f"DATASET.augment made {_describe(image)} and {_describe(label)}. It must return an image "
            "(3, h, w) uint8 and a label (h, w) of whole numbers; normalizing comes later."
        )
    standard = label.as_subclass(Tensor).numpy()
    low, high = int(standard.min()), int(standard.max())
    if low < 0 or (num_class is not None and high > num_class):
        # Refused here, since a GPU that is given such a target stops with an error that names nothing.
        allowed = "0 or more" if num_class is None else f"from 0 to {num_class}"
        raise UserError(
            f"DATASET.augment made a label with the values {low} to {high}; they must be {allowed}. "
            "0 stands for no class, and is what to fill borders with."
        )
    return image.as_subclass(Tensor), standard


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _cut(label: np.ndarray, window: _Window) -> np.ndarray:
    return label[window.top : window.top + window.height, window.left : window.left + window.width]


def _below(limit: int) -> int:
    return int(torch.randint(limit, ()))
