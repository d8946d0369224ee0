"""Images with bands, as the datasets need them: scaled, with their label, and at several sizes."""

from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
import torch

from ..errors import UserError
from .bands import Bands
from .label_coding import LabelCoding
from .labels import read_label
from .raster import raster_size
from .resize import resize, scored_sizes


class BandImage(NamedTuple):
    """An image with bands.

    Attributes:
        unit: (H, W, C) float32, clipped and scaled to 0 to 1; missing values are the mean.
        without_data: the pixels without data, (H, W) bool; None if there are none.
    """

    unit: np.ndarray
    without_data: np.ndarray | None


def read_image(path: str | PathLike[str], bands: Bands) -> BandImage:
    """The bands of a file. Raises: UserError if it cannot be read or does not have them."""
    pixels = bands.read(path)
    return BandImage(bands.unit(pixels), pixels.without_data)


def read_pair(
    image_path: str | PathLike[str], label_path: str | PathLike[str], coding: LabelCoding, bands: Bands
) -> tuple[BandImage, np.ndarray]:
    """An image and its label in standard values. Pixels without data are unlabelled.

    Raises: UserError as `read_image` and `read_label` do, and if the files differ in size.
    """
    label = read_label(label_path, coding)
    width, height = raster_size(image_path)  # known before anything is decoded
    if label.shape != (height, width):
        raise UserError(
            f"{label_path} is {label.shape[1]} x {label.shape[0]} pixels, but its image {image_path} is "
            f"{width} x {height}."
        )
    image = read_image(image_path, bands)
    if image.without_data is not None:
        label = np.where(image.without_data, label.dtype.type(0), label)
    return image, label


def scaled_bands(
    image: BandImage,
    short_edges: Sequence[int],
    max_long_edge: int,
    multiple: int,
    window: int = 0,
    *,
    bands: Bands,
) -> list[torch.Tensor]:
    """`datasets.scaled` for bands: (1, C, h, w) float32 each, normalized."""
    height, width = image.unit.shape[:2]
    sizes = scored_sizes(width, height, short_edges, max_long_edge, multiple, window)
    return [bands.normalize(resize(image.unit, *size))[None] for size in sizes]
