"""The datasets under the import path of the old package; holds no code."""

from .data.base_dataset import BaseDataset, img_transform, imresize
from .data.datasets import TestDataset, TrainDataset, ValDataset
from .data.resize import round_up as round2nearest_multiple

__all__ = [
    "BaseDataset",
    "TestDataset",
    "TrainDataset",
    "ValDataset",
    "img_transform",
    "imresize",
    "round2nearest_multiple",
]
