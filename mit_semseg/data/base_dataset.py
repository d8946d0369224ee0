"""The base of the datasets, with the attributes and methods that subclasses outside the package use."""

from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from .images import MEAN, STD
from .records import Records, read_entries
from .resize import round_up

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

Selected = TypeVar("Selected", list[Any], Records)


class BaseDataset(Dataset[Any]):
    """The entries of a list, and the steps from an image and its label to tensors.

    A subclass implements ``__getitem__`` and ``__len__``. Its entries may be anything.

    Args:
        odgt: path of a list, one JSON value per line, or the list of the entries itself.
        opt: anything with the attributes ``imgSizes`` (short edges in pixels), ``imgMaxSize`` (limit of the
            long edge in pixels) and ``padding_constant`` (sides are rounded up to multiples of it).
        kwargs: further arguments of `parse_input_list`.

    Attributes:
        list_sample: the selected entries.
        num_sample: their number.

    Raises: UserError for an unusable list, ValueError if no entry is left.
    """

    list_sample: list[Any]
    num_sample: int

    def __init__(self, odgt: Any, opt: Any, **kwargs: Any) -> None:
        sizes = opt.imgSizes
        self.imgSizes: tuple[int, ...] = (sizes,) if isinstance(sizes, int) else tuple(sizes)
        self.imgMaxSize: int = opt.imgMaxSize
        self.padding_constant: int = opt.padding_constant
        self.parse_input_list(odgt, **kwargs)

    def parse_input_list(
        self, odgt: Any, max_sample: int = -1, start_idx: int = -1, end_idx: int = -1
    ) -> None:
        """Set ``list_sample`` and ``num_sample``.

        Args:
            odgt: see the class.
            max_sample: keep only the first ``max_sample`` entries; 0 or less keeps all.
            start_idx, end_idx: keep only ``entries[start_idx:end_idx]``; -1 keeps all.
        """
        entries = read_entries(Path(odgt)) if isinstance(odgt, str | PathLike) else list(odgt)
        self.list_sample = select(entries, max_sample, start_idx, end_idx)
        self.num_sample = len(self.list_sample)

    def normalize(self, image: Tensor) -> Tensor:
        """An RGB image (3, H, W) with values from 0 to 1, normalized by ImageNet's mean and deviation."""
        return _normalized(image)

    def img_transform(self, img: Any) -> Tensor:
        """An RGB image, PIL or (H, W, 3) with values from 0 to 255, as `normalize` returns it; float32."""
        return self.normalize(_scaled_to_one(img))

    def segm_transform(self, segm: Any) -> Tensor:
        """A label (H, W), PIL or an array, minus 1, so that unlabelled pixels are -1; int64."""
        return torch.from_numpy(np.array(segm)).long() - 1

    def round2nearest_multiple(self, x: int, p: int) -> int:
        """The smallest multiple of ``p`` that is at least ``x``."""
        return round_up(x, p)


def select(entries: Selected, max_sample: int, start_idx: int, end_idx: int, name: str = "odgt") -> Selected:
    """The entries to keep, see `BaseDataset.parse_input_list`. Raises: ValueError if none is left."""
    if max_sample > 0:
        entries = entries[:max_sample]
    if start_idx >= 0 and end_idx >= 0:
        entries = entries[start_idx:end_idx]
    if not len(entries):
        raise ValueError(f"start_idx {start_idx} to end_idx {end_idx} leave no record of {name}.")
    return entries


def img_transform(img: Any) -> Tensor:
    """`BaseDataset.img_transform`, as a function."""
    return _normalized(_scaled_to_one(img))


def imresize(im: Image.Image, size: tuple[int, int], interp: str = "bilinear") -> Image.Image:
    """An image at another size (width, height).

    Args:
        interp: "nearest", "bilinear" or "bicubic".

    Raises: ValueError for another ``interp``.
    """
    if interp not in _RESAMPLING:
        raise ValueError(f"interp is {interp!r}, but takes {', '.join(_RESAMPLING)}")
    return im.resize(size, _RESAMPLING[interp])


def _scaled_to_one(img: Any) -> Tensor:
    return torch.from_numpy(np.array(img, np.float32).transpose(2, 0, 1).copy()) / 255


def _normalized(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (image - mean) / std
